/**
 * An upgrade under running pods whose monitors are those of another version, of which test/old-monitor keeps the build:
 * everything that the kubelet does to a pod is done to them by today's agent.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { brotliDecompressSync } from "node:zlib";
import { programs } from "../../native/binding.js";
import { type AgentOptions, startAgent, type TestAgent } from "../support/agent.js";
import { toldByKernel } from "../support/cgroup-files.js";
import { leftProcesses } from "../support/leaks.js";
import { copyBuild, repository } from "../support/other-build.js";
import { until } from "../support/until.js";
import { WebSocketClient } from "../support/websocket-client.js";
import {
  ContainerState,
  containerStatus,
  createContainer,
  exec,
  hostPidOf,
  importBusybox,
  long,
  out,
  PodSandboxState,
  podStatus,
  type RunningPod,
  readLog,
  removePod,
  runContainer,
  runPod,
  sh,
  untilWritten,
  waitExited,
} from "../support/workload.js";

const skip = process.arch === "x64" ? false : "the old monitor that is kept is for x86-64";
const limitBytes = 64 * 1024 * 1024;

const options: AgentOptions = {};
let oldMonitor: Buffer;
let old: string;
let agent: TestAgent;
let pod: RunningPod;
/** it answers each line of its input, and ends by SIGTERM with 7 */
let echoing: string;
let echoingPid: number;
/** created, and not started, by the old version */
let created: string;
/** it ends while no agent runs */
let ending: string;

before(async () => {
  if (skip) return;
  oldMonitor = brotliDecompressSync(readFileSync(join(repository, "test/old-monitor/berth-monitor.br")));
  old = mkdtempSync(join(tmpdir(), "berth-old-"));
  options.program = copyBuild(join(old, "build"));
  writeFileSync(join(old, "build/build/berth-monitor"), oldMonitor);
  agent = await startAgent(options);

  await importBusybox(agent);
  pod = await runPod(agent);
  echoing = await runContainer(agent, pod, {
    ...sh('trap "exit 7" TERM; while read -r line; do echo "got $line"; done; echo over; while sleep 0.1; do :; done'),
    stdin: true,
    linux: { resources: { memory_limit_in_bytes: long(limitBytes) } },
  });
  echoingPid = await hostPidOf(agent, echoing);
  created = await createContainer(agent, pod, sh("echo started; exit 3"));
  ending = await runContainer(agent, pod, {
    ...sh("until [ -e /gate/open ]; do sleep 0.1; done; echo ended; exit 5"),
    mounts: [{ container_path: "/gate", host_path: old, readonly: true }],
  });
  const endingPid = await hostPidOf(agent, ending);
  await agent.kill9();
  writeFileSync(join(old, "open"), "");
  await until(() => !isAlive(endingPid));
  delete options.program;
  await agent.restart();
});
after(async () => {
  if (skip) return;
  await agent.stop();
  rmSync(old, { recursive: true });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function hashOf(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function monitorHashOf(id: string): string {
  const monitor = leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).find(
    ({ what }) => what.includes("--sandbox") && what.includes(id),
  );
  return hashOf(readFileSync(`/proc/${monitor?.pid}/exe`));
}

test("the pod's monitor is still the old one, and its containers are as they were", { skip }, async () => {
  assert.notEqual(hashOf(oldMonitor), hashOf(readFileSync(programs.monitor)));
  assert.equal(monitorHashOf(pod.id), hashOf(oldMonitor));
  assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_READY);
  assert.equal(await hostPidOf(agent, echoing), echoingPid);
  assert.equal((await containerStatus(agent, created)).state, ContainerState.CONTAINER_CREATED);
});

test("the exit of a container that ended between the two agents is told", { skip }, async () => {
  const ended = await waitExited(agent, ending);
  assert.equal(ended.exit_code, 5);
  assert.deepEqual(
    (await readLog(ended.log_path ?? "")).map(({ text }) => text),
    ["ended"],
  );
  await agent.client.call("RemoveContainer", { container_id: ending });
});

test("ExecSync: output, exit code, and a time-out that ends it", { skip }, async () => {
  assert.deepEqual(await exec(agent, echoing, "echo out; echo err >&2; exit 4"), {
    stdout: "out\n",
    stderr: "err\n",
    exitCode: 4,
  });
  await assert.rejects(exec(agent, echoing, ["sleep", "1000"], 1), /time/);
  await until(() => !leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).some(isLongSleep));
});

function isLongSleep({ what }: { what: string }): boolean {
  return what === "sleep 1000";
}

test("Exec: its streams, and with a terminal", { skip }, async () => {
  const stdin = { container_id: echoing, stdin: true, stdout: true };
  const piped = await agent.client.call("Exec", { ...stdin, cmd: ["cat"], stderr: true });
  const client = await WebSocketClient.open(piped.url);
  client.send(0, "through");
  client.closeChannel(0);
  assert.equal((await client.ended()).status, "Success");
  assert.equal(client.text(1), "through");

  const asked = { ...stdin, cmd: ["sh", "-c", "read -r size; stty size; exit 6"], tty: true };
  const terminal = await WebSocketClient.open((await agent.client.call("Exec", asked)).url);
  terminal.resize(111, 22);
  terminal.send(0, "go\n");
  assert.equal((await terminal.ended()).details?.causes?.[0]?.message, "6");
  assert.match(terminal.text(1), /22 111/);
});

test("Attach, logs and their rotation", { skip }, async () => {
  const asked = { container_id: echoing, stdin: true, stdout: true, stderr: true };
  const client = await WebSocketClient.open((await agent.client.call("Attach", asked)).url);
  client.send(0, "one\n");
  await client.until("the first answer", () => client.text(1) === "got one\n");
  await untilWritten(agent, echoing, "got one");

  const path = (await containerStatus(agent, echoing)).log_path ?? "";
  renameSync(path, `${path}.1`);
  await agent.client.call("ReopenContainerLog", { container_id: echoing });
  client.send(0, "two\n");
  await client.until("the second answer", () => client.text(1) === "got one\ngot two\n");
  await untilWritten(agent, echoing, "got two");
  const both = await Promise.all([`${path}.1`, path].map(readLog));
  assert.deepEqual(
    both.map((records) => records.map(({ text }) => text)),
    [["got one"], ["got two"]],
  );
  client.destroy();
});

test("statistics, and new limits", { skip }, async () => {
  const { stats } = await agent.client.call("ContainerStats", { container_id: echoing });
  assert.ok(Number(stats?.cpu?.usage_core_nano_seconds?.value) > 0);
  const linux = { memory_limit_in_bytes: long(limitBytes / 2), cpu_shares: long(512) };
  await agent.client.call("UpdateContainerResources", { container_id: echoing, linux });
  assert.equal(toldByKernel(`${agent.cgroupRoot}/${echoing}`).memoryLimitBytes, limitBytes / 2);
  const { resources } = await containerStatus(agent, echoing);
  assert.equal(Number(resources?.linux?.memory_limit_in_bytes), limitBytes / 2);
});

test("a container that was created before the upgrade starts, and one that is made after it runs", {
  skip,
}, async () => {
  await agent.client.call("StartContainer", { container_id: created });
  assert.equal((await waitExited(agent, created)).exit_code, 3);

  const next = await runContainer(agent, pod, {
    ...sh("echo $WORD; grep -c . /proc/self/status; exit 9"),
    envs: [{ key: "WORD", value: Buffer.from("new") }],
    mounts: [{ container_path: "/base", host_path: agent.paths.logs, readonly: true }],
    linux: { resources: { cpu_quota: long(50_000), cpu_period: long(100_000) } },
  });
  const ended = await waitExited(agent, next);
  assert.equal(ended.exit_code, 9);
  assert.equal((await readLog(ended.log_path ?? ""))[0]?.text, "new");
});

test("a new pod beside it has today's monitor, and both outlive the next agent", { skip }, async () => {
  const other = await runPod(agent);
  const container = await runContainer(agent, other);
  await agent.kill9();
  await agent.restart();
  assert.equal(monitorHashOf(other.id), hashOf(readFileSync(programs.monitor)));
  assert.equal(monitorHashOf(pod.id), hashOf(oldMonitor));
  assert.equal(await out(agent, container, "echo new"), "new");
  assert.equal(await out(agent, echoing, "echo old"), "old");
  await removePod(agent, other);
});

test("containers are stopped with their grace, the pod is removed, and nothing is left", { skip }, async () => {
  await agent.client.call("StopContainer", { container_id: echoing, timeout: long(30) });
  assert.equal((await waitExited(agent, echoing)).exit_code, 7);
  const running = await runContainer(agent, pod);
  const pid = await hostPidOf(agent, running);
  await removePod(agent, pod);
  assert.ok(!isAlive(pid));
  await agent.assertNothingLeft();
});
