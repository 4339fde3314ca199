/**
 * Pods of Debian's CNI plugins come and go in an agent that is killed with SIGKILL at random moments; then everything that
 * they make is compared with what there was before. BERTH_CHURN_SECONDS sets for how long. The agent's host is a network
 * namespace of its own, so that nothing in it is anybody else's.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { until } from "../support/until.js";
import { runPod } from "../support/workload.js";

const seconds = Number(process.env["BERTH_CHURN_SECONDS"] ?? 6);
const churners = 4;
const [firstPort, network, bridge] = [30_000, "churned", "cni0"];
const missing = ["bridge", "host-local", "portmap"].filter((name) => !existsSync(join("/usr/lib/cni", name)));
const skip = missing.length > 0 && `the CNI plugins ${missing.join(", ")} are not in /usr/lib/cni`;

describe(`CNI pods come and go for ${seconds} s in an agent that is killed at random`, { skip }, () => {
  const host = `berth-churn-${process.pid}`;
  let agent: TestAgent;
  let leases: string;

  before(async () => {
    execFileSync("ip", ["netns", "add", host]);
    execFileSync("ip", ["-n", host, "link", "set", "lo", "up"]);
    agent = await startAgent({ flags: { network: "cni" }, wrapper: ["nsenter", `--net=/run/netns/${host}`] });
    leases = join(agent.paths.base, "leases");
    const ranges = [[{ subnet: "10.1.0.0/16" }], [{ subnet: "fd01::/64" }]];
    const ipam = { type: "host-local", dataDir: leases, ranges, routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }] };
    const plugins = [
      { type: "bridge", bridge, isGateway: true, ipMasq: true, hairpinMode: true, ipam },
      { type: "portmap", capabilities: { portMappings: true } },
    ];
    const list = { cniVersion: "1.0.0", name: network, plugins };
    writeFileSync(join(agent.paths.cni.conf, "10-churned.conflist"), JSON.stringify(list));
  });
  after(async () => {
    await agent?.stop();
    execFileSync("ip", ["netns", "delete", host]);
  });

  const inside = (...command: string[]) =>
    execFileSync("nsenter", [`--net=/run/netns/${host}`, ...command], {
      encoding: "utf8",
      maxBuffer: 64 << 20,
      // nft warns of tables that iptables has made
      stdio: ["ignore", "pipe", "ignore"],
    })
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "");

  /** Of the host, of host-local, of the cache and of the agent: a line for each thing. */
  const view = () => {
    const list = (directory: string) => (existsSync(directory) ? readdirSync(directory) : []);
    return [
      ...inside("ip", "-o", "link").map((line) => line.replace(/^\d+: |<.*?>|state \w+/g, "")),
      ...inside("ip", "-o", "address").map((line) => line.replace(/^\d+: /, "")),
      ...["-4", "-6"].flatMap((family) => inside("ip", family, "route", "show", "table", "all")),
      ...inside("nft", "list", "ruleset").map((line) => line.replace(/packets \d+ bytes \d+/, "")),
      // the agent's own are on another port after each start
      ...inside("ss", "-Hlntu").filter((line) => !line.includes("127.0.0.1:")),
      // where host-local goes on is kept
      ...list(join(leases, network)).filter((name) => !/^(lock|last_reserved_ip\..*)$/.test(name)),
      ...list(join(agent.paths.cni.cache, "results")),
      ...list(join(agent.paths.root, "network-removals")),
      ...list(agent.paths.netns),
    ].map((line) => line.replace(/ linkdown/, ""));
  };

  const removePods = async (churner?: number) => {
    const { items } = await agent.client.call("ListPodSandbox", {});
    for (const { id = "", annotations } of items) {
      if (churner === undefined || annotations?.["churner"] === String(churner)) {
        await agent.client.call("RemovePodSandbox", { pod_sandbox_id: id });
      }
    }
  };

  async function churn(churner: number, stop: AbortSignal): Promise<number> {
    let pods = 0;
    for (let turn = churner; !stop.aborted; turn++) {
      try {
        const port = { protocol: turn % 2, container_port: 8080, host_port: firstPort + churner };
        const annotations = { churner: String(churner) };
        await runPod(agent, { annotations, port_mappings: turn % 3 === 0 ? [] : [port] });
        pods += 1;
      } catch {
        // nobody answers between a kill and the next start
        await sleep(20);
      }
      await removePods(churner).catch(() => undefined);
    }
    return pods;
  }

  it("nothing is left of any of them", async (t) => {
    // the bridge, the chains that all have in common
    await runPod(agent, { port_mappings: [{ container_port: 8080, host_port: firstPort }] });
    await until(() => !view().some((line) => line.includes("tentative")));
    await removePods();
    await agent.assertNothingLeft();
    const before = view();
    const stop = new AbortController();
    const running = Array.from({ length: churners }, (_, churner) => churn(churner, stop.signal));
    let kills = 0;
    try {
      for (const end = Date.now() + seconds * 1_000; Date.now() < end; kills++) {
        await sleep(3_000 * Math.random() ** 2);
        await agent.kill9();
        await agent.restart();
      }
    } finally {
      stop.abort();
    }
    const pods = (await Promise.all(running)).reduce((sum, count) => sum + count, 0);
    await removePods();
    await agent.assertNothingLeft();
    const removals = async () => (await agent.client.call("ListNetworkRemovals", {})).removals;
    for (const end = Date.now() + 30_000; (await removals()).length > 0; await sleep(50)) {
      assert.ok(Date.now() < end, `still pending: ${JSON.stringify(await removals())}`);
    }
    const now = view();
    const [more, less] = [now.filter((line) => !before.includes(line)), before.filter((line) => !now.includes(line))];
    assert.deepEqual({ more, less }, { more: [], less: [] });
    assert.ok(kills > 0);
    t.diagnostic(`${pods} pods, ${kills} kills`);
  });
});
