/** Resources of pods and containers: changed live, read back truthfully, refused without leaving half of a change. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups } from "../support/leaks.js";
import {
  containerStatus,
  fails,
  importBusybox,
  long,
  out,
  type RunningPod,
  runContainer,
  runPod,
  sh,
  untilWritten,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;
const megabyte = 1024 * 1024;
const scratch = mkdtempSync(join(tmpdir(), "berth-resources-"));

before(async () => {
  const config = join(scratch, "config.toml");
  writeFileSync(config, '[rlimits]\nnofile = "1000:2000"\ncore = "0"\nstack = "8388608:unlimited"\n');
  agent = await startAgent({ flags: { config } });
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(async () => {
  await agent.stop();
  rmSync(scratch, { recursive: true });
});

/** A control file of a container's, by its name on cgroup v1 or on v2. */
function controlFile(id: string, v1: string, v2: string): string {
  for (const directory of leftCgroups(`${agent.cgroupRoot}/${id}`)) {
    for (const name of [v1, v2]) if (existsSync(join(directory, name))) return join(directory, name);
  }
  throw new Error(`container ${id} has neither ${v1} nor ${v2}`);
}

const toldOf = async (id: string) => (await containerStatus(agent, id)).resources?.linux;

test("limits of the configuration are the programs', as far as the agent may give them", async () => {
  const id = await runContainer(agent, pod);
  const limits = await out(agent, id, ["cat", "/proc/1/limits"]);
  assert.match(limits, /^Max open files +1000 +2000 /m);
  assert.match(limits, /^Max core file size +0 +0 /m);
  assert.match(limits, /^Max stack size +8388608 /m);
  assert.match(await out(agent, id, ["cat", "/proc/self/limits"]), /^Max open files +1000 +2000 /m);
  // what the agent may not give is said, once
  const stack = Number(/^Max stack size +\d+ +(\w+)/m.exec(limits)?.[1]?.replace("unlimited", "Infinity"));
  const said = agent.logs().match(/RLIMIT_STACK of containers is at most/g) ?? [];
  assert.equal(said.length, stack === Number.POSITIVE_INFINITY ? 0 : 1);
});

test("ContainerStatus tells what is in force, also when somebody else changed it", async () => {
  const resources = { memory_limit_in_bytes: long(64 * megabyte), cpu_shares: long(512), cpuset_cpus: "0" };
  const id = await runContainer(agent, pod, { linux: { resources } });
  let told = await toldOf(id);
  assert.equal(String(told?.memory_limit_in_bytes), String(64 * megabyte));
  assert.equal(String(told?.cpu_shares), "512");
  assert.equal(told?.cpuset_cpus, "0");
  writeFileSync(controlFile(id, "memory.memsw.limit_in_bytes", "memory.max"), String(96 * megabyte));
  writeFileSync(controlFile(id, "memory.limit_in_bytes", "memory.max"), String(96 * megabyte));
  told = await toldOf(id);
  assert.equal(String(told?.memory_limit_in_bytes), String(96 * megabyte));
});

test("an update changes what it says and nothing else, up and down, in either order of memory and swap", async () => {
  const resources = { memory_limit_in_bytes: long(64 * megabyte), cpu_shares: long(512), cpu_quota: long(50_000) };
  const id = await runContainer(agent, pod, { linux: { resources } });
  for (const limit of [128, 32, 256]) {
    const linux = { memory_limit_in_bytes: long(limit * megabyte) };
    await agent.client.call("UpdateContainerResources", { container_id: id, linux });
    const told = await toldOf(id);
    assert.equal(String(told?.memory_limit_in_bytes), String(limit * megabyte));
    assert.equal(String(told?.cpu_shares), "512");
    assert.equal(String(told?.cpu_quota), "50000");
  }
  const swap = { memory_swap_limit_in_bytes: long(300 * megabyte) };
  await agent.client.call("UpdateContainerResources", { container_id: id, linux: swap });
  const told = await toldOf(id);
  assert.equal(String(told?.memory_limit_in_bytes), String(256 * megabyte));
  assert.equal(String(told?.memory_swap_limit_in_bytes), String(300 * megabyte));
  await agent.client.call("UpdateContainerResources", {
    container_id: id,
    linux: { cpuset_cpus: "0", cpuset_mems: "0" },
  });
  // as the kubelet's CPU manager does it, with nothing else in the request
  const series = (await (await fetch(agent.metricsUrl)).text()).split("\n").filter((line) => line.includes(id));
  const value = (name: string) =>
    series
      .find((line) => line.startsWith(`${name}{`))
      ?.split(" ")
      .at(-1);
  assert.deepEqual([value("container_spec_cpu_shares"), value("container_spec_cpu_quota")], ["512", "50000"]);
  assert.equal(readFileSync(controlFile(id, "cpuset.cpus", "cpuset.cpus"), "utf8").trim(), "0");
  // what runs on the first CPU alone says so, also when it has ended
  for (const stop of [false, true]) {
    if (stop) await agent.client.call("StopContainer", { container_id: id });
    const last = await toldOf(id);
    assert.deepEqual([last?.cpuset_cpus, last?.cpuset_mems, String(last?.cpu_quota)], ["0", "0", "50000"]);
  }
});

test("a memory limit below what is in use is refused, the container lives, and nothing else was changed", async () => {
  const id = await runContainer(agent, pod, {
    // tail keeps what it has read in memory of its own
    ...sh("(head -c 40000000 /dev/zero; echo ready >&2; sleep 1000) | tail -c 39000000"),
    linux: { resources: { memory_limit_in_bytes: long(128 * megabyte), cpu_quota: long(90_000) } },
  });
  await untilWritten(agent, id, "ready");
  const linux = { memory_limit_in_bytes: long(8 * megabyte), cpu_quota: long(20_000) };
  const update = agent.client.call("UpdateContainerResources", { container_id: id, linux });
  await fails(update, "FAILED_PRECONDITION", /memory_limit_in_bytes 8388608 is less than what is in use/);
  const told = await toldOf(id);
  assert.equal(String(told?.memory_limit_in_bytes), String(128 * megabyte));
  assert.equal(String(told?.cpu_quota), "90000");
  assert.match(readFileSync(controlFile(id, "cpu.cfs_quota_us", "cpu.max"), "utf8"), /^90000/);
  assert.equal(await out(agent, id, ["echo", "alive"]), "alive");
});

test("a value that the kernel does not take is refused by name and leaves the others as they were", async () => {
  const id = await runContainer(agent, pod, { linux: { resources: { cpu_shares: long(512) } } });
  const linux = { cpu_shares: long(1000), cpuset_cpus: "9999" };
  const update = agent.client.call("UpdateContainerResources", { container_id: id, linux });
  await fails(update, "INVALID_ARGUMENT", /cpuset_cpus "9999" was refused/);
  assert.equal(String((await toldOf(id))?.cpu_shares), "512");
});

test("an ended container's resources cannot be changed, and the last ones are told", async () => {
  const resources = { memory_limit_in_bytes: long(64 * megabyte) };
  const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: { resources } });
  await agent.client.call("StopContainer", { container_id: id });
  const update = agent.client.call("UpdateContainerResources", { container_id: id, linux: { cpu_shares: long(2) } });
  await fails(update, "FAILED_PRECONDITION", /exited/);
  assert.equal(String((await toldOf(id))?.memory_limit_in_bytes), String(64 * megabyte));
});

test("a pod's new size and overhead are recorded, and survive the agent", async () => {
  const overhead = { memory_limit_in_bytes: long(3 * megabyte) };
  const resources = { memory_limit_in_bytes: long(512 * megabyte), cpu_shares: long(2048) };
  const resized = await runPod(agent, { linux: { overhead: { cpu_shares: long(10) } } });
  const recorded = async () => {
    const { info } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: resized.id, verbose: true });
    return (JSON.parse(info["info"] ?? "{}") as { config: { linux: Record<string, Record<string, string>> } }).config
      .linux;
  };
  assert.equal((await recorded())["overhead"]?.["cpu_shares"], "10");
  await agent.client.call("UpdatePodSandboxResources", { pod_sandbox_id: resized.id, overhead, resources });
  await agent.restart();
  const linux = await recorded();
  assert.equal(linux["overhead"]?.["memory_limit_in_bytes"], String(3 * megabyte));
  assert.equal(linux["resources"]?.["cpu_shares"], "2048");
  await agent.client.call("StopPodSandbox", { pod_sandbox_id: resized.id });
  const late = agent.client.call("UpdatePodSandboxResources", { pod_sandbox_id: resized.id, resources });
  await fails(late, "FAILED_PRECONDITION", /stopped/);
  const unknown = agent.client.call("UpdatePodSandboxResources", { pod_sandbox_id: "0".repeat(64), resources });
  await fails(unknown, "NOT_FOUND", /pod sandbox/);
});
