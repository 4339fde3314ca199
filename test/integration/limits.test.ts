/** Resource limits and statistics: what the kernel is told, and what it does. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups, leftProcesses } from "../support/leaks.js";
import {
  containerStatus,
  exec,
  importBusybox,
  long,
  out,
  type RunningPod,
  runContainer,
  runPod,
  runToEnd,
  sh,
  untilWritten,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;
const megabyte = 1024 * 1024;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

/** A control file of a container's, by its name on cgroup v1 or on v2. */
function control(id: string, v1: string, v2: string): string {
  for (const directory of leftCgroups(`${agent.cgroupRoot}/${id}`)) {
    for (const name of [v1, v2]) {
      if (existsSync(join(directory, name))) return readFileSync(join(directory, name), "utf8").trim();
    }
  }
  throw new Error(`container ${id} has neither ${v1} nor ${v2}`);
}

// dd's buffer is memory of its own process
const eat = (megabytes: number) => `dd if=/dev/zero of=/dev/null bs=${megabytes}M count=1 2>/dev/null`;

test("a container that needs more memory than its limit is killed, and says so", async () => {
  const resources = { memory_limit_in_bytes: long(32 * megabyte) };
  const { status } = await runToEnd(agent, pod, { command: ["sh", "-c", `exec ${eat(100)}`], linux: { resources } });
  assert.deepEqual([status.exit_code, status.reason], [137, "OOMKilled"]);
});

test("a child that is killed for memory does not make a container that ended well OOMKilled in vain", async () => {
  const resources = { memory_limit_in_bytes: long(32 * megabyte) };
  const { status } = await runToEnd(agent, pod, { ...sh(`${eat(100)}; exit 0`), linux: { resources } });
  assert.deepEqual([status.exit_code, status.reason], [0, "Completed"]);
});

test("another container of the pod that is killed for memory leaves its neighbours alone", async () => {
  const neighbour = await runContainer(agent, pod);
  const resources = { memory_limit_in_bytes: long(32 * megabyte) };
  await runToEnd(agent, pod, { command: ["sh", "-c", `exec ${eat(100)}`], linux: { resources } });
  assert.equal((await exec(agent, neighbour, ["true"])).exitCode, 0);
});

test("limits are in the container's control files, and can be changed while it runs", async () => {
  const resources = {
    memory_limit_in_bytes: long(64 * megabyte),
    cpu_period: long(100_000),
    cpu_quota: long(25_000),
    cpu_shares: long(512),
  };
  const id = await runContainer(agent, pod, { linux: { resources } });
  assert.equal(control(id, "memory.limit_in_bytes", "memory.max"), String(64 * megabyte));
  assert.match(control(id, "cpu.cfs_quota_us", "cpu.max"), /^25000( 100000)?$/);
  const linux = { memory_limit_in_bytes: long(128 * megabyte), cpu_period: long(100_000), cpu_quota: long(50_000) };
  await agent.client.call("UpdateContainerResources", { container_id: id, linux });
  assert.equal(control(id, "memory.limit_in_bytes", "memory.max"), String(128 * megabyte));
  assert.match(control(id, "cpu.cfs_quota_us", "cpu.max"), /^50000( 100000)?$/);
  const { resources: told } = await containerStatus(agent, id);
  assert.equal(String(told?.linux?.memory_limit_in_bytes), String(128 * megabyte));
});

test("a CPU limit holds", async () => {
  const id = await runContainer(agent, pod, {
    ...sh("while :; do :; done"),
    linux: { resources: { cpu_period: long(100_000), cpu_quota: long(20_000) } },
  });
  const usedNs = async () => {
    const { stats } = await agent.client.call("ContainerStats", { container_id: id });
    return Number(String(stats?.cpu?.usage_core_nano_seconds?.value ?? 0));
  };
  const [before, begun] = [await usedNs(), performance.now()];
  await sleep(1_000);
  const share = ((await usedNs()) - before) / 1e6 / (performance.now() - begun);
  assert.ok(share > 0.02 && share < 0.35, `${share} of a CPU`);
  await agent.client.call("RemoveContainer", { container_id: id });
});

test("oom_score_adj is the init's and its execs', and the monitor's is no container's", async () => {
  const told = (id: string) => out(agent, id, ["cat", "/proc/1/oom_score_adj", "/proc/self/oom_score_adj"]);
  const ofAgent = Number(readFileSync(`/proc/${agent.pid}/oom_score_adj`, "utf8"));
  const id = await runContainer(agent, pod, { linux: { resources: { oom_score_adj: long(500) } } });
  assert.equal(await told(id), "500\n500");
  const plain = await runContainer(agent, pod);
  const least = canLower() ? 0 : Math.max(ofAgent, 0);
  assert.equal(await told(plain), `${least}\n${least}`);
  const monitor = leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).find(({ what }) =>
    what.includes("berth-monitor"),
  );
  const ofMonitor = Number(readFileSync(`/proc/${monitor?.pid}/oom_score_adj`, "utf8"));
  assert.ok(ofMonitor === -998 || (ofMonitor === ofAgent && !canLower()), `${ofMonitor}`);
  for (const container_id of [id, plain]) await agent.client.call("RemoveContainer", { container_id });
});

test("an update's oom_score_adj is given to what runs, unless it has set its own, and to later execs", async () => {
  const script = `(echo 900 > /proc/self/oom_score_adj; exec sleep 1000) & echo $! > /own; sleep 1000 & echo $! > /child
    while ! grep -q 900 /proc/$(cat /own)/oom_score_adj; do sleep 0.05; done; echo ready; sleep 1000`;
  const id = await runContainer(agent, pod, { ...sh(script), linux: { resources: { oom_score_adj: long(500) } } });
  await untilWritten(agent, id, "ready");
  const told = () => out(agent, id, "for p in 1 $(cat /child) $(cat /own) self; do cat /proc/$p/oom_score_adj; done");
  for (const score of [700, 600]) {
    const linux = { oom_score_adj: long(score), cpu_shares: long(score) };
    await agent.client.call("UpdateContainerResources", { container_id: id, linux });
    assert.equal(await told(), `${score}\n${score}\n900\n${score}`);
  }
  await agent.client.call("UpdateContainerResources", { container_id: id, linux: { cpu_shares: long(2) } });
  await agent.kill9();
  await agent.restart();
  assert.equal(await told(), "600\n600\n900\n600");
  const { status } = await agent.client.call("ContainerStatus", { container_id: id });
  assert.equal(String(status?.resources?.linux?.oom_score_adj), "600");
  await agent.client.call("RemoveContainer", { container_id: id });
});

/** CAP_SYS_RESOURCE */
function canLower(): boolean {
  const effective = /^CapEff:\s*(\w+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  return ((BigInt(`0x${effective}`) >> 24n) & 1n) === 1n;
}

test("statistics: CPU, memory with its working set, the writable layer", async () => {
  const id = await runContainer(agent, pod, sh("dd if=/dev/zero of=/file bs=1M count=8 2>/dev/null; sleep 100"));
  let stats: Awaited<ReturnType<typeof statsOf>>;
  for (let tries = 0; ; tries++) {
    stats = await statsOf(id);
    if (Number(String(stats?.writable_layer?.used_bytes?.value ?? 0)) >= 8 * megabyte || tries > 300) break;
    await sleep(50);
  }
  assert.equal(stats?.attributes?.id, id);
  const numberOf = (value: { value?: unknown } | null | undefined) => Number(String(value?.value ?? Number.NaN));
  assert.ok(numberOf(stats?.cpu?.usage_core_nano_seconds) > 0);
  assert.ok(numberOf(stats?.memory?.working_set_bytes) > 0);
  assert.ok(numberOf(stats?.memory?.usage_bytes) >= numberOf(stats?.memory?.working_set_bytes));
  assert.ok(numberOf(stats?.writable_layer?.used_bytes) >= 8 * megabyte);
  assert.ok(numberOf(stats?.writable_layer?.used_bytes) < 12 * megabyte);
  const { stats: all } = await agent.client.call("ListContainerStats", { filter: { id } });
  assert.deepEqual(
    all.map(({ attributes }) => attributes?.id),
    [id],
  );
});

async function statsOf(id: string) {
  return (await agent.client.call("ContainerStats", { container_id: id })).stats;
}
