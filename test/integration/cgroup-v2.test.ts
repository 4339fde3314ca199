/** Pods where cgroup v2 is alone: what only it has, and what others may do to a tree that all share. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  out,
  podConfig,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  runToEnd,
  sh,
  untilWritten,
} from "../support/workload.js";

const { mode, hierarchies } = openCgroupManager();
const mount = hierarchies[0]?.mountPoint ?? "";
const mebibyte = 1024 * 1024;
const skip = mode === "v2" ? false : "cgroup v2 is not alone here";

describe("pods on cgroup v2", { skip }, () => {
  let agent: TestAgent;
  let pod: RunningPod;

  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    pod = await runPod(agent);
  });
  after(() => agent.stop());

  const directoryOf = (id: string, parent = agent.cgroupRoot): string => join(mount, parent, id);
  const read = (directory: string, name: string): string => readFileSync(join(directory, name), "utf8").trim();
  const unified = (values: Record<string, string>) => ({ linux: { resources: { unified: values } } });
  // dd's buffer is memory of its own process
  const eat = "dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null";

  test("what the unified map says is in the files of that name, and wins over what is converted", async () => {
    const hasWeights = existsSync(join(directoryOf(`berth-${pod.id}`), "io.weight"));
    const values: Record<string, string> = {
      "memory.min": `${mebibyte}`,
      "memory.low": `${2 * mebibyte}`,
      "memory.high": `${40 * mebibyte}`,
      "memory.oom.group": "1",
      "cpu.weight": "321",
      "cpu.max": "30000 100000",
      ...(hasWeights && { "io.weight": "default 55" }),
    };
    const resources = { unified: values, cpu_shares: long(1024), cpu_quota: long(90_000) };
    const id = await runContainer(agent, pod, { linux: { resources } });
    for (const [name, value] of Object.entries(values)) assert.equal(read(directoryOf(id), name), value, name);
    await agent.client.call("UpdateContainerResources", {
      container_id: id,
      linux: { unified: { "memory.high": "max", "memory.low": "0" } },
    });
    const now = ["memory.high", "memory.low", "memory.min"].map((name) => read(directoryOf(id), name));
    assert.deepEqual(now, ["max", "0", `${mebibyte}`]);
  });

  for (const [name, value, code, sentence] of [
    ["memory.high", "lots", "INVALID_ARGUMENT", /unified "memory\.high" "lots" was refused/],
    ["io.max", "1:99999 rbps=1", "INVALID_ARGUMENT", /unified "io\.max" "1:99999 rbps=1" was refused/],
    ["cpu.weight", "10001", "INVALID_ARGUMENT", /unified "cpu\.weight" "10001" was refused/],
    ["memory.current", "1", "INVALID_ARGUMENT", /unified "memory\.current"/],
    ["memory.nothing", "1", "FAILED_PRECONDITION", /memory\.nothing/],
    ["nothing.max", "1", "FAILED_PRECONDITION", /nothing/],
    ["cgroup.freeze", "1", "INVALID_ARGUMENT", /unified\["cgroup\.freeze"\]: it is no name of a controller's file/],
    ["../memory.max", "1", "INVALID_ARGUMENT", /it is no name of a controller's file/],
    ["memory.max/../../x", "1", "INVALID_ARGUMENT", /it is no name of a controller's file/],
    ["pids.max", "-1", "INVALID_ARGUMENT", /neither "max" nor a number/],
  ] as const) {
    test(`refused of the unified map, by name: ${name} = ${value}`, async () => {
      const before = readdirSync(join(mount, agent.cgroupRoot));
      await fails(createContainer(agent, pod, unified({ [name]: value })), code, sentence);
      assert.deepEqual(readdirSync(join(mount, agent.cgroupRoot)), before);
    });
  }

  test("with memory.oom.group all of a container is killed together, and without it the one that asks for too much", async () => {
    const script = sh(`(while :; do sleep 0.1; done) & ${eat}; echo survived`);
    const limits = { memory_limit_in_bytes: long(32 * mebibyte) };
    const { status, output } = await runToEnd(agent, pod, { ...script, linux: { resources: limits } });
    assert.deepEqual([status.exit_code, status.reason, output], [0, "Completed", "survived\n"]);
    const group = { ...limits, unified: { "memory.oom.group": "1" } };
    const killed = await runToEnd(agent, pod, { ...script, linux: { resources: group } });
    assert.deepEqual([killed.status.exit_code, killed.status.reason, killed.output], [137, "OOMKilled", ""]);
  });

  test("memory.high makes a container give back what it can and kills nobody; pressure is told as the kernel does", async () => {
    const id = await runContainer(agent, pod, {
      ...sh("dd if=/dev/zero of=/tmp/file bs=1M count=24 2>/dev/null; echo written; sleep 1000"),
      ...unified({ "memory.high": `${12 * mebibyte}` }),
    });
    await untilWritten(agent, id, "written");
    assert.match(read(directoryOf(id), "memory.events"), /^high [1-9]\d*$/m);
    assert.match(read(directoryOf(id), "memory.events"), /^oom_kill 0$/m);
    const waitedNs = (resource: string) =>
      Number(/^some .* total=(\d+)$/m.exec(read(directoryOf(id), `${resource}.pressure`))?.[1]) * 1000;
    const resources = ["cpu", "memory", "io"] as const;
    const least = resources.map(waitedNs);
    const { stats } = await agent.client.call("ContainerStats", { container_id: id });
    const told = resources.map((resource) => Number(stats?.[resource]?.psi?.Some?.Total ?? Number.NaN));
    const most = resources.map(waitedNs);
    for (const [index, resource] of resources.entries()) {
      const [value = Number.NaN, from = 0, to = 0] = [told[index], least[index], most[index]];
      assert.ok(value >= from && value <= to, `${resource}: ${from} <= ${value} <= ${to}`);
    }
    await agent.client.call("RemoveContainer", { container_id: id });
  });

  test("a frozen container: an exec runs into its timeout, statistics are told, and it goes on when it is thawed", async () => {
    const id = await runContainer(agent, pod);
    writeFileSync(join(directoryOf(id), "cgroup.freeze"), "1");
    await fails(exec(agent, id, ["true"], 1), "DEADLINE_EXCEEDED", /1/);
    const { stats } = await agent.client.call("ContainerStats", { container_id: id }, 5_000);
    assert.ok(Number(stats?.memory?.usage_bytes?.value ?? 0) > 0);
    writeFileSync(join(directoryOf(id), "cgroup.freeze"), "0");
    assert.equal(await out(agent, id, "echo alive"), "alive");
    await agent.client.call("RemoveContainer", { container_id: id });
  });

  test("controllers that somebody takes away meanwhile come back with the next container; pods end as ever", async () => {
    const parent = `${agent.cgroupRoot}/taken`;
    const own = await runPod(agent, { linux: { cgroup_parent: parent } });
    const resources = { memory_limit_in_bytes: long(64 * mebibyte) };
    const id = await runContainer(agent, own, { linux: { resources } });
    assert.equal(read(directoryOf(id, parent), "memory.max"), `${64 * mebibyte}`);
    const control = join(mount, parent, "cgroup.subtree_control");
    writeFileSync(control, "-memory -pids -cpu -cpuset -io");
    assert.ok(!existsSync(join(directoryOf(id, parent), "memory.max")));

    const { stats } = await agent.client.call("ContainerStats", { container_id: id });
    assert.equal(stats?.attributes?.id, id);
    assert.equal(stats?.memory?.usage_bytes?.value ?? undefined, undefined);
    assert.equal((await containerStatus(agent, id)).state, 1);
    assert.equal(await out(agent, id, "echo alive"), "alive");
    const linux = { memory_limit_in_bytes: long(48 * mebibyte) };
    const update = agent.client.call("UpdateContainerResources", { container_id: id, linux });
    await fails(update, "FAILED_PRECONDITION", /memory/);

    const next = await runContainer(agent, own, { linux: { resources } });
    for (const one of [id, next]) assert.ok(existsSync(join(directoryOf(one, parent), "memory.max")), one);
    assert.equal(read(directoryOf(next, parent), "memory.max"), `${64 * mebibyte}`);
    await agent.client.call("UpdateContainerResources", { container_id: id, linux });
    assert.equal(read(directoryOf(id, parent), "memory.max"), `${48 * mebibyte}`);

    writeFileSync(control, "-memory -pids -cpu");
    await agent.client.call("StopContainer", { container_id: next, timeout: long(0) });
    assert.deepEqual((await containerStatus(agent, next)).exit_code, 137);
    await removePod(agent, own);
    assert.equal(existsSync(join(mount, parent)), false);
  });

  test("threaded cgroups of others beside pods are left alone", async () => {
    const beside = join(mount, agent.cgroupRoot, "others");
    mkdirSync(join(beside, "threads", "some"), { recursive: true });
    let process_: ChildProcess | undefined;
    try {
      writeFileSync(join(beside, "threads", "some", "cgroup.type"), "threaded");
      process_ = spawn("sleep", ["1000"]);
      await once(process_, "spawn");
      writeFileSync(join(beside, "threads", "cgroup.procs"), String(process_.pid));
      writeFileSync(join(beside, "threads", "some", "cgroup.threads"), String(process_.pid));
      const shown = () => [
        read(beside, "cgroup.type"),
        read(join(beside, "threads"), "cgroup.type"),
        read(join(beside, "threads", "some"), "cgroup.type"),
        read(join(beside, "threads", "some"), "cgroup.threads"),
        read(join(beside, "threads"), "cgroup.subtree_control"),
      ];
      const before = shown();
      assert.deepEqual(before, ["domain", "domain threaded", "threaded", String(process_.pid), ""]);
      const own = await runPod(agent, { linux: { cgroup_parent: `${agent.cgroupRoot}/kube/burstable` } });
      const id = await runContainer(agent, own, unified({ "memory.high": "max" }));
      assert.equal(await out(agent, id, "echo alive"), "alive");
      assert.deepEqual(shown(), before);
      await removePod(agent, own);
      assert.deepEqual(shown(), before);

      // below a threaded cgroup there is no place for a pod: nothing that counts memory can be there
      const call = agent.client.call("RunPodSandbox", {
        config: podConfig(agent, { linux: { cgroup_parent: `${agent.cgroupRoot}/others/threads` } }),
      });
      await fails(call, "FAILED_PRECONDITION", /\/others\/threads is threaded or has threaded cgroups below/);
      assert.deepEqual(shown(), before);
      assert.deepEqual(
        readdirSync(join(beside, "threads"), { withFileTypes: true }).filter((one) => one.isDirectory()).length,
        1,
      );
    } finally {
      process_?.kill("SIGKILL");
      if (process_ !== undefined && process_.exitCode === null) await once(process_, "exit");
      for (const name of ["threads/some", "threads", "."]) rmdirSync(join(beside, name));
    }
  });

  test("cgroups that a container has made itself, controllers and all, go with it", async () => {
    const security_context = { privileged: true };
    const own = await runPod(agent, { linux: { security_context } });
    const script = [
      "cd /sys/fs/cgroup && mkdir init a a/b && echo 1 > init/cgroup.procs",
      "echo '+memory +pids' > cgroup.subtree_control && echo '+memory' > a/cgroup.subtree_control",
      "sleep 1000 & echo $! > a/b/cgroup.procs; echo made; wait",
    ].join("\n");
    const id = await runContainer(agent, own, { ...sh(script), linux: { security_context } });
    await untilWritten(agent, id, "made");
    assert.equal(await out(agent, id, "echo alive"), "alive");
    const { stats } = await agent.client.call("ContainerStats", { container_id: id });
    assert.ok(Number(stats?.memory?.usage_bytes?.value ?? 0) > 0);
    await agent.client.call("StopContainer", { container_id: id, timeout: long(0) });
    await agent.client.call("RemoveContainer", { container_id: id });
    assert.equal(existsSync(directoryOf(id)), false);
    await removePod(agent, own);
  });

  test("a container with threaded cgroups takes execs, which end at their timeout", async () => {
    const security_context = { privileged: true };
    const own = await runPod(agent, { linux: { security_context } });
    const script = "cd /sys/fs/cgroup && mkdir t && echo threaded > t/cgroup.type; echo made; exec sleep 1000";
    const id = await runContainer(agent, own, { ...sh(script), linux: { security_context } });
    await untilWritten(agent, id, "made");
    assert.equal(await out(agent, id, "cat /sys/fs/cgroup/cgroup.type /proc/self/cgroup"), "domain threaded\n0::/");
    await fails(exec(agent, id, "sleep 777 & sleep 778", 1), "DEADLINE_EXCEEDED", /1/);
    assert.equal((await exec(agent, id, "pgrep -f 'sleep 77[78]$'")).stdout, "");
    assert.deepEqual(
      readdirSync(directoryOf(id)).filter((name) => name.startsWith("exec-")),
      [],
    );
    await removePod(agent, own);
  });
});
