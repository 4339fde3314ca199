/**
 * The agent is killed at the n-th thing that it does to the machine while a pod starts or ends, for each n of a few; the next
 * agent leaves nothing. BERTH_KILL_STEPS=all takes every n.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { until } from "../support/built-in-network.js";
import { kernelView } from "../support/kernel-view.js";
import { type Killer, makeKiller, noCompiler } from "../support/kill-at-call.js";
import { podConfig, runPod } from "../support/workload.js";

const all = process.env["BERTH_KILL_STEPS"] === "all";
const fewSteps = 2;

/** What plugins have made is a file for each pod and plugin. */
const plugin = `cat > /dev/null
name="$CNI_CONTAINERID-\${0##*/}"
case "$CNI_COMMAND" in
  VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
  ADD) touch "$made/$name"; echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.8.7/24"}]}' ;;
  DEL) rm -f "$made/$name" ;;
esac
`;

for (const network of ["builtin", "cni"] as const) {
  describe(`with the network ${network}`, { skip: noCompiler }, () => {
    let agent: TestAgent;
    let directory: string;
    let killer: Killer;
    let made: string;
    let ports: number[];

    before(async () => {
      directory = mkdtempSync(join(tmpdir(), "berth-kill-"));
      made = join(directory, "made");
      mkdirSync(made);
      killer = makeKiller(directory);
      agent = await startAgent({ flags: { network }, env: killer.env });
      const { bin, conf } = agent.paths.cni;
      for (const name of ["first", "second"]) {
        writeFileSync(join(bin, name), `#!/bin/sh\nmade=${made}\n${plugin}`, { mode: 0o755 });
      }
      const plugins = [{ type: "first" }, { type: "second", capabilities: { portMappings: true } }];
      writeFileSync(join(conf, "10-two.conflist"), JSON.stringify({ cniVersion: "1.0.0", name: "two", plugins }));
      ports = [20_000 + agent.slot.number * 50];
    });
    after(async () => {
      await agent?.stop();
      rmSync(directory, { recursive: true });
    });

    const view = () => (network === "builtin" ? kernelView(agent, ports) : readdirSync(agent.paths.netns));
    const port = () => ({ protocol: 1, container_port: 53, host_port: ports[0] ?? 0 });
    const start = () => runPod(agent, podConfig(agent, { port_mappings: [port()] }));
    const end = async (id: string) => {
      await agent.client.call("StopPodSandbox", { pod_sandbox_id: id });
      await agent.client.call("RemovePodSandbox", { pod_sandbox_id: id });
    };

    function* chosen(steps: number): Generator<number> {
      const stride = all ? 1 : Math.max(1, Math.floor(steps / fewSteps));
      for (let step = 1 + Math.floor(Math.random() * stride); step <= steps; step += stride) yield step;
    }

    /** A pod can be removed, the same port can be had again, and the kernel and the plugins have what they had. */
    async function nothingIsLeft(before: readonly string[], what: string): Promise<void> {
      killer.arm(0);
      await agent.kill9();
      await agent.restart();
      const { items } = await agent.client.call("ListPodSandbox", {});
      for (const { id } of items) await end(id ?? "");
      await agent.assertNothingLeft();
      await end((await start()).id);
      await agent.assertNothingLeft();
      const removals = async () => (await agent.client.call("ListNetworkRemovals", {})).removals;
      for (const end = Date.now() + 20_000; (await removals()).length > 0; await sleep(50)) {
        assert.ok(Date.now() < end, `${what}: pending is ${JSON.stringify(await removals())}`);
      }
      assert.deepEqual(readdirSync(made), [], what);
      const now = view();
      const [more, less] = [now.filter((line) => !before.includes(line)), before.filter((line) => !now.includes(line))];
      assert.deepEqual({ more, less }, { more: [], less: [] }, what);
    }

    it("an agent killed at any step of a pod's start and end leaves nothing to the next one", async (t) => {
      // what the first pod of all makes for all
      await end((await start()).id);
      await agent.assertNothingLeft();
      if (network === "builtin") {
        await until(() => view().some((line) => line.startsWith("route local fe80:")), "the bridge's own address");
      }
      const atFirst = view();
      const { steps: startSteps, result: pod } = await killer.stepsOf(start);
      const { steps: endSteps } = await killer.stepsOf(() => end(pod.id));
      await agent.assertNothingLeft();
      assert.ok(startSteps > 5 && endSteps > 5, `${startSteps} and ${endSteps} steps were counted`);
      let kills = 0;
      for (const step of chosen(startSteps)) {
        killer.arm(step);
        await start().catch(() => kills++);
        await nothingIsLeft(atFirst, `killed at step ${step} of ${startSteps} of the start`);
      }
      for (const step of chosen(endSteps)) {
        const { id } = await start();
        killer.arm(step);
        await end(id).catch(() => kills++);
        await nothingIsLeft(atFirst, `killed at step ${step} of ${endSteps} of the end`);
      }
      assert.ok(kills > 0);
      t.diagnostic(`${startSteps} steps of a start, ${endSteps} of an end, ${kills} kills`);
    });
  });
}
