/** CRI log files: format, partial lines, rotation, and what happens while nobody is there. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, renameSync, statSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  containerStatus,
  fails,
  importBusybox,
  type RunningPod,
  readLog,
  runContainer,
  runPod,
  runToEnd,
  sh,
  waitExited,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

test("each line has a time in nanoseconds, its stream and a tag", async () => {
  const id = await runContainer(agent, pod, sh("echo one; echo two >&2; printf three"));
  const ended = await waitExited(agent, id);
  const path = ended.log_path ?? "";
  assert.ok(path.startsWith(`${pod.config.log_directory}/`));
  const records = await readLog(path);
  const text = (of: string) => records.filter(({ stream }) => stream === of).map(({ tag, text }) => `${tag} ${text}`);
  assert.deepEqual(text("stdout"), ["F one", "P three"]);
  assert.deepEqual(text("stderr"), ["F two"]);
  for (const { time } of records) {
    assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)$/);
    assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000);
  }
});

test("a long line is cut into partial records of at most 16 KiB, and nothing is lost", async () => {
  const { status } = await runToEnd(agent, pod, sh("head -c 100000 /dev/zero | tr '\\000' x; echo; echo end"));
  const records = await readLog(status.log_path ?? "");
  const lastOfLine = records.findIndex(({ tag }) => tag === "F");
  assert.ok(records.slice(0, lastOfLine).every(({ tag, text }) => tag === "P" && text.length <= 16384));
  const line = records.slice(0, lastOfLine + 1).map(({ text }) => text);
  assert.equal(line.join(""), "x".repeat(100_000));
  assert.deepEqual(records.at(-1)?.text, "end");
});

test("half a million lines arrive whole and in order", async () => {
  const { status } = await runToEnd(agent, pod, sh("seq 1 500000"));
  const lines = readFileSync(status.log_path ?? "", "latin1")
    .trimEnd()
    .split("\n");
  assert.equal(lines.length, 500_000);
  assert.ok(lines.every((line, index) => line.endsWith(` stdout F ${index + 1}`)));
});

test("rotation: after a rename and ReopenContainerLog no line is lost, doubled or torn", async () => {
  const id = await runContainer(
    agent,
    pod,
    sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; sleep 60"),
  );
  const path = (await containerStatus(agent, id)).log_path ?? "";
  const parts: string[] = [];
  for (let part = 0; part < 8; part++) {
    await sleep(15);
    const rotated = `${path}.${part}`;
    renameSync(path, rotated);
    parts.push(rotated);
    await agent.client.call("ReopenContainerLog", { container_id: id });
    assert.ok(existsSync(path));
  }
  let texts: string[] = [];
  for (const until = Date.now() + 30_000; texts.at(-1) !== "line 19999" && Date.now() < until; ) {
    texts = (await Promise.all([...parts, path].map(readLog))).flat().map(({ text }) => text);
  }
  assert.deepEqual(
    texts,
    Array.from({ length: 20_000 }, (_, index) => `line ${index}`),
  );
  await agent.client.call("RemoveContainer", { container_id: id });
});

test("the log stays when the container goes, and is not for others to read", async () => {
  const { id, status } = await runToEnd(agent, pod, sh("echo secret"));
  await agent.client.call("RemoveContainer", { container_id: id });
  const { mode } = statSync(status.log_path ?? "");
  assert.equal(mode & 0o007, 0, mode.toString(8));
});

test("a container that nobody logs for runs all the same", async () => {
  const id = await runContainer(agent, pod, { ...sh("echo x; exit 5"), log_path: "" });
  const ended = await waitExited(agent, id);
  assert.deepEqual([ended.exit_code, ended.log_path], [5, ""]);
});

test("only a running container's log is reopened", async () => {
  const { id } = await runToEnd(agent, pod, sh("true"));
  await fails(agent.client.call("ReopenContainerLog", { container_id: id }), "FAILED_PRECONDITION", /running|exited/);
  await fails(agent.client.call("ReopenContainerLog", { container_id: "f".repeat(64) }), "NOT_FOUND", /ffff/);
});
