/** Runs where systemd is PID 1 (test/integration/systemd-driver.test.ts): pods in scopes, and what happens to them. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual, promisify } from "node:util";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { parseHierarchies, unifiedControllers } from "../../sandbox/cgroup/hierarchies.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  createContainer,
  fails,
  hostPidOf,
  importBusybox,
  long,
  out,
  podConfig,
  podStatus,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const run = promisify(execFile);
const hierarchies = parseHierarchies(readFileSync("/proc/self/mountinfo", "utf8"), unifiedControllers);
const burstable = "/kubepods.slice/kubepods-burstable.slice";
const limit = 64 * 1024 * 1024;

let agent: TestAgent;

before(async () => {
  agent = await startAgent({ flags: { "cgroup-driver": "systemd", "cgroup-root": "/berth.slice" } });
  await importBusybox(agent);
});
after(async () => {
  await agent.stop();
  await untilScopesAre([]);
});

test("the kubelet is told of it", async () => {
  const { linux } = await agent.client.call("RuntimeConfig", {});
  assert.equal(linux?.cgroup_driver, runtime.v1.CgroupDriver.SYSTEMD);
});

test("a pod is one scope, delegated, with its monitor and its containers in cgroups below", async () => {
  const pod = await runPod(agent);
  const unit = `berth-${pod.id}.scope`;
  assert.deepEqual(await propertiesOf(unit), {
    ActiveState: "active",
    ControlGroup: `/berth.slice/${unit}`,
    Delegate: "yes",
    Slice: "berth.slice",
    TasksMax: "infinity",
  });
  const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
  assert.deepEqual(cgroupsOf(await hostPidOf(agent, id)), new Set([`/berth.slice/${unit}/${id}`]));
  assert.deepEqual(cgroupsOf(await monitorPidOf(pod.id)), new Set([`/berth.slice/${unit}/monitor`]));
  assert.equal(memoryLimit(`/berth.slice/${unit}/${id}`), limit);
  assert.equal(await out(agent, id, "echo alive"), "alive");
  await removePod(agent, pod);
  await untilScopesAre([]);
});

for (const parent of [`${burstable}/kubepods-burstable-pod1_1.slice`, "kubepods-burstable-pod1_2.slice"]) {
  test(`a parent as the kubelet names it: ${parent}`, async () => {
    const pod = await runPod(agent, { linux: { cgroup_parent: parent } });
    const { ControlGroup } = await propertiesOf(`berth-${pod.id}.scope`);
    assert.equal(ControlGroup, `${burstable}/${parent.split("/").at(-1)}/berth-${pod.id}.scope`);
    const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
    assert.equal(memoryLimit(`${ControlGroup}/${id}`), limit);
    await removePod(agent, pod);
  });
}

test("pods come and go in one slice, where systemd tidies up after each", async () => {
  const parent = "kubepods-burstable-pod1_3.slice";
  await Promise.all(
    [1, 2, 3].map(async () => {
      for (let round = 0; round < 6; round++) {
        const pod = await runPod(agent, { linux: { cgroup_parent: parent } });
        const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
        assert.equal(memoryLimit(`${burstable}/${parent}/berth-${pod.id}.scope/${id}`), limit);
        await removePod(agent, pod);
      }
    }),
  );
});

for (const [parent, sentence] of [
  ["/kubepods/burstable/pod1", /cgroup_parent: "\/kubepods\/burstable\/pod1" is no systemd slice, .*RuntimeConfig/],
  ["/other.slice/kubepods-burstable.slice", /is not where systemd has kubepods-burstable\.slice/],
] as const) {
  test(`refused: the parent ${parent}`, async () => {
    const call = agent.client.call("RunPodSandbox", { config: podConfig(agent, { linux: { cgroup_parent: parent } }) });
    await fails(call, "INVALID_ARGUMENT", sentence);
    await agent.assertNothingLeft();
    await untilScopesAre([]);
  });
}

test("systemd reloads and re-executes itself: limits stay, execs work, pods start and stop meanwhile", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
  const cgroup = `/berth.slice/berth-${pod.id}.scope/${id}`;
  for (const command of ["daemon-reload", "daemon-reexec"]) {
    const others = Promise.all([1, 2, 3].map(() => runPod(agent)));
    await run("systemctl", [command]);
    assert.equal(await out(agent, id, "echo alive"), "alive");
    for (const other of await others) await removePod(agent, other);
    assert.equal(memoryLimit(cgroup), limit);
    assert.deepEqual(cgroupsOf(await hostPidOf(agent, id)), new Set([cgroup]));
    assert.equal((await propertiesOf(`berth-${pod.id}.scope`)).ActiveState, "active");
  }
  await removePod(agent, pod);
});

test("the bus restarts, and the next pod connects anew; while it is away, a pod is refused and leaves nothing", async () => {
  await run("systemctl", ["restart", "dbus.service"]);
  await removePod(agent, await runPod(agent));
  await run("systemctl", ["stop", "dbus.socket", "dbus.service"]);
  const call = agent.client.call("RunPodSandbox", { config: podConfig(agent) });
  await fails(
    call,
    "FAILED_PRECONDITION",
    /systemd could not start berth-\S+\.scope in berth\.slice: .*system_bus_socket/,
  );
  await agent.assertNothingLeft();
  await run("systemctl", ["start", "dbus.socket"]);
  await removePod(agent, await runPod(agent));
});

test("systemd kills a scope: the pod is told as not ready", async () => {
  const pod = await runPod(agent);
  await runContainer(agent, pod, sh("sleep 1000"));
  await run("systemctl", ["kill", "--signal=KILL", `berth-${pod.id}.scope`]);
  for (
    const until = Date.now() + 20_000;
    (await podStatus(agent, pod.id)).state === runtime.v1.PodSandboxState.SANDBOX_READY;
    await sleep(50)
  ) {
    assert.ok(Date.now() < until, "still ready");
  }
  await removePod(agent, pod);
});

test("the agent is killed, also while it starts pods: what ran runs on, and nothing else is left", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
  for (let kill = 0; kill < 6; kill++) {
    const started = Promise.allSettled([1, 2].map(() => runPod(agent)));
    await sleep(kill * 12);
    await agent.kill9();
    await started;
    await agent.restart();
  }
  assert.equal(await out(agent, id, "echo alive"), "alive");
  const { items } = await agent.client.call("ListPodSandbox", {});
  const known = items.map((item) => `berth-${item.id}.scope`).sort();
  await untilScopesAre(known);
  for (const item of items) await removePod(agent, { id: item.id ?? "", config: podConfig(agent) });
});

test("a container that cannot be created leaves its pod's scope as it was", async () => {
  const pod = await runPod(agent);
  const broken = { linux: { resources: { cpuset_cpus: "4000" } } };
  await fails(createContainer(agent, pod, broken), "INVALID_ARGUMENT", /cpuset_cpus/);
  assert.deepEqual(
    readdirSync(join(memoryRoot(), "berth.slice", `berth-${pod.id}.scope`)).filter((name) =>
      /^[0-9a-f]{64}$/.test(name),
    ),
    [],
  );
  await removePod(agent, pod);
});

const limits: runtime.v1.ILinuxContainerConfig = { resources: { memory_limit_in_bytes: long(limit) } };

async function propertiesOf(unit: string): Promise<Record<string, string>> {
  const names = ["ActiveState", "ControlGroup", "Delegate", "Slice", "TasksMax"];
  const { stdout } = await run("systemctl", ["show", unit, `--property=${names.join(",")}`]);
  const lines = stdout.trim().split("\n").sort();
  return Object.fromEntries(lines.map((line) => line.split("=") as [string, string]));
}

/** Waits until these are Berth's scopes, to systemd and on the disk: it forgets one a moment after its last process. */
async function untilScopesAre(expected: readonly string[]): Promise<void> {
  for (const until = Date.now() + 20_000; ; await sleep(100)) {
    const found = { units: await scopes(), directories: scopeDirectories() };
    if (isDeepStrictEqual(found, { units: expected, directories: expected })) return;
    if (Date.now() > until) assert.deepEqual(found, { units: expected, directories: expected });
  }
}

/** Berth's scopes that systemd knows. */
async function scopes(): Promise<string[]> {
  const { stdout } = await run("systemctl", ["list-units", "--all", "--plain", "--no-legend", "berth-*.scope"]);
  return stdout
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "")
    .filter(Boolean)
    .sort();
}

function scopeDirectories(): string[] {
  const found = hierarchies.flatMap(({ mountPoint }) => {
    const slice = join(mountPoint, "berth.slice");
    return existsSync(slice) ? readdirSync(slice).filter((name) => name.endsWith(".scope")) : [];
  });
  return [...new Set(found)].sort();
}

/** The paths in the hierarchies that Berth uses. */
function cgroupsOf(pid: number): Set<string> {
  const lines = readFileSync(`/proc/${pid}/cgroup`, "utf8").trim().split("\n");
  return new Set(lines.map((line) => line.split(":")[2] ?? ""));
}

function memoryRoot(): string {
  return hierarchies.find(({ controllers }) => controllers.includes("memory"))?.mountPoint ?? "";
}

function memoryLimit(cgroup: string): number {
  const file = existsSync("/sys/fs/cgroup/cgroup.controllers") ? "memory.max" : "memory.limit_in_bytes";
  return Number(readFileSync(join(memoryRoot(), cgroup, file), "utf8"));
}

async function monitorPidOf(podId: string): Promise<number> {
  const { info } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: podId, verbose: true });
  return Number((JSON.parse(info?.["info"] ?? "{}") as { pid: number }).pid);
}
