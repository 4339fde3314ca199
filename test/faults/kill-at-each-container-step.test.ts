/**
 * The agent is killed at the n-th thing that it does to the machine while a container is made and started, or stopped and
 * removed, for each n of a few; the next agent has it whole, or nothing of it. BERTH_KILL_STEPS=all takes every n.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { kernelFeatures } from "../../native/features.js";
import { supportsUserNamespaces } from "../../sandbox/user-namespaces.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type Killer, makeKiller, noCompiler } from "../support/kill-at-call.js";
import {
  busyboxName,
  ContainerState,
  createContainer,
  exec,
  importBusybox,
  long,
  NamespaceMode,
  type RunningPod,
  removePod,
  runPod,
} from "../support/workload.js";

const all = process.env["BERTH_KILL_STEPS"] === "all";
const fewSteps = 2;
const runc = "/usr/sbin/runc";
const ids = [{ host_id: 400_000, container_id: 0, length: 65_536 }];
const users = { namespace_options: { userns_options: { mode: NamespaceMode.POD, uids: ids, gids: ids } } };

interface Kind {
  name: string;
  handler?: string;
  pod?: runtime.v1.IPodSandboxConfig;
  container?: runtime.v1.IContainerConfig;
  skip: boolean | string;
}

const kinds: Kind[] = [
  { name: "Berth's own", container: { annotations: { hooks: "yes" } }, skip: false },
  {
    name: "Berth's own, in the pod's PID namespace, with an image volume",
    container: {
      mounts: [{ container_path: "/image", image: { image: busyboxName }, readonly: true }],
      linux: { security_context: { namespace_options: { pid: NamespaceMode.POD } } },
    },
    skip: false,
  },
  {
    name: "in a user namespace",
    pod: { linux: { security_context: users } },
    container: { linux: { security_context: users } },
    skip: !supportsUserNamespaces(kernelFeatures()) && "this kernel has no idmapped overlay and tmpfs mounts",
  },
  { name: "an OCI runtime's", handler: "runc", skip: !existsSync(runc) && "runc is not installed" },
];

let agent: TestAgent;
let base: string;
let killer: Killer;
/** a volume that is missing, which is made for a container */
let volume: string;

before(async () => {
  if (noCompiler) return;
  base = mkdtempSync(join(tmpdir(), "berth-kill-"));
  volume = join(base, "volumes", "missing");
  mkdirSync(join(base, "hooks.d"));
  for (const stage of ["createRuntime", "poststart", "poststop"]) {
    const hook = { path: "/bin/sh", args: ["sh", "-c", "cat > /dev/null"] };
    const content = { version: "1.0.0", hook, when: { annotations: { "^hooks$": "^yes$" } }, stages: [stage] };
    writeFileSync(join(base, "hooks.d", `${stage}.json`), JSON.stringify(content));
  }
  const config = join(base, "config.toml");
  writeFileSync(config, `[runtimes.runc]\npath = "${runc}"\n`);
  killer = makeKiller(base);
  agent = await startAgent({ flags: { config, "hooks-dir": join(base, "hooks.d") }, env: killer.env });
  await importBusybox(agent);
});

after(async () => {
  await agent?.stop();
  if (base) rmSync(base, { recursive: true });
});

const podOf = ({ pod, handler }: Kind) => runPod(agent, pod, handler);

async function start(pod: RunningPod, { container }: Kind): Promise<string> {
  const id = await createContainer(agent, pod, {
    ...container,
    labels: { "io.kubernetes.container.name": "c" },
    mounts: [...(container?.mounts ?? []), { container_path: "/volume", host_path: volume }],
  });
  await agent.client.call("StartContainer", { container_id: id });
  return id;
}

async function end(container_id: string): Promise<void> {
  await agent.client.call("StopContainer", { container_id, timeout: long(0) });
  await agent.client.call("RemoveContainer", { container_id });
}

function* chosen(steps: number): Generator<number> {
  const stride = all ? 1 : Math.max(1, Math.floor(steps / fewSteps));
  for (let step = 1 + Math.floor(Math.random() * stride); step <= steps; step += stride) yield step;
}

/** What the next agent has of it works as ever, and goes; what it does not have is not there. */
async function isWholeOrNothing(pod: RunningPod, ended: boolean, what: string): Promise<void> {
  killer.arm(0);
  await agent.kill9();
  await agent.restart();
  const { containers } = await agent.client.call("ListContainers", {});
  for (const { id: told, state } of containers) {
    const id = told ?? "";
    if (state === ContainerState.CONTAINER_RUNNING) assert.equal((await exec(agent, id, ["true"])).exitCode, 0, what);
    if (state === ContainerState.CONTAINER_CREATED) await agent.client.call("StartContainer", { container_id: id });
    await end(id);
  }
  if (!ended && containers.length === 0) assert.ok(!existsSync(join(volume, "..")), `${what}: its volume is there`);
  await removePod(agent, pod);
  await agent.assertNothingLeft();
  rmSync(join(volume, ".."), { recursive: true, force: true });
}

for (const kind of kinds) {
  test(`an agent killed at any step of a container (${kind.name}) has it whole, or nothing of it`, {
    skip: kind.skip || noCompiler,
  }, async (t) => {
    const pod = await podOf(kind);
    const { steps: startSteps, result: id } = await killer.stepsOf(() => start(pod, kind));
    const { steps: endSteps } = await killer.stepsOf(() => end(id));
    await removePod(agent, pod);
    rmSync(join(volume, ".."), { recursive: true });
    let kills = 0;
    for (const step of chosen(startSteps)) {
      const other = await podOf(kind);
      killer.arm(step);
      await start(other, kind).catch(() => undefined);
      if (killer.hasKilled()) kills++;
      await isWholeOrNothing(other, false, `killed at step ${step} of ${startSteps} of the start`);
    }
    for (const step of chosen(endSteps)) {
      const other = await podOf(kind);
      const container = await start(other, kind);
      killer.arm(step);
      await end(container).catch(() => undefined);
      if (killer.hasKilled()) kills++;
      await isWholeOrNothing(other, true, `killed at step ${step} of ${endSteps} of the end`);
    }
    assert.ok(kills > 0);
    t.diagnostic(`${startSteps} steps of a start, ${endSteps} of an end, ${kills} kills`);
  });
}
