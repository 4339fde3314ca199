/** Logs on a full disk, with a limit, with lines of a set length, and without their file or directory. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  containerStatus,
  fails,
  importBusybox,
  readLog,
  removePod,
  runContainer,
  runPod,
  runToEnd,
  sh,
  waitExited,
} from "../support/workload.js";

const lineBytes = 1_000;
const bytesPerSecond = 400_000;

let agent: TestAgent;

before(async () => {
  agent = await startAgent({
    flags: { "log-line-bytes": String(lineBytes), "log-rate": String(bytesPerSecond) },
  });
  await importBusybox(agent);
});

after(() => agent.stop());

test("lines are cut at the length that is set", async () => {
  const pod = await runPod(agent);
  const { status } = await runToEnd(agent, pod, sh("head -c 2500 /dev/zero | tr '\\000' x; echo"));
  const records = await readLog(status.log_path ?? "");
  assert.deepEqual(
    records.map(({ tag, text }) => `${tag}${text.length}`),
    [`P${lineBytes}`, `P${lineBytes}`, "F500"],
  );
});

test("who writes more than the limit waits, loses nothing, and can be killed meanwhile", async () => {
  const pod = await runPod(agent);
  const begun = performance.now();
  // 1 MB
  const { status } = await runToEnd(agent, pod, sh("seq 100000 242856"));
  // what is in the pipe does not wait, nor does a tenth of a second's worth
  assert.ok(performance.now() - begun > 1_500, "it has not waited");
  const records = await readLog(status.log_path ?? "");
  assert.deepEqual([records.length, records.at(-1)?.text], [142_857, "242856"]);
  const endless = await runContainer(agent, pod, { command: ["yes"] });
  await agent.client.call("StopContainer", { container_id: endless });
  assert.equal((await waitExited(agent, endless)).exit_code, 137);
});

test("a full disk: the container goes on, what is lost is counted, and said once", async () => {
  const directory = join(agent.paths.logs, "full");
  mkdirSync(directory);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", directory]);
  try {
    const pod = await runPod(agent, { log_directory: directory });
    const ended = await runToEnd(agent, pod, sh("seq 1 50000; exit 3"));
    assert.equal(ended.status.exit_code, 3);
    // records that are there are whole
    const records = await readLog(ended.status.log_path ?? "");
    assert.deepEqual(
      records.map(({ text }) => text),
      Array.from(records, (_, index) => String(index + 1)),
    );
    const lost = async () => {
      const text = await (await fetch(agent.metricsUrl)).text();
      return Number(/^berth_log_dropped_bytes_total (\d+)/m.exec(text)?.[1]);
    };
    for (let tries = 0; (await lost()) < 1_000_000 && tries < 500; tries++) await sleep(20);
    // 50,000 records of 39 bytes and more, less than 64 KiB of them written
    assert.ok((await lost()) > 1_900_000, `${await lost()} bytes were counted`);
    assert.equal(agent.logs().match(/its output is lost[^\n]*ENOSPC/g)?.length, 1);
    await removePod(agent, pod);
  } finally {
    execFileSync("umount", [directory]);
  }
});

test("ReopenContainerLog makes a file that has vanished anew; without its directory it fails, and the log goes on", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod, sh("i=0; while :; do echo line-$i; i=$((i+1)); sleep 0.02; done"));
  const path = (await containerStatus(agent, id)).log_path ?? "";
  const until = async (holds: () => boolean | Promise<boolean>) => {
    for (let tries = 0; !(await holds()); tries++) {
      assert.ok(tries < 500);
      await sleep(20);
    }
  };
  await until(() => statSync(path).size > 0);
  rmSync(path);
  await agent.client.call("ReopenContainerLog", { container_id: id });
  await until(() => statSync(path).size > 0);
  const directory = pod.config.log_directory ?? "";
  renameSync(directory, `${directory}.gone`);
  await fails(agent.client.call("ReopenContainerLog", { container_id: id }), "FAILED_PRECONDITION", /no such file/);
  const old = path.replace(directory, `${directory}.gone`);
  const { size } = statSync(old);
  await until(() => statSync(old).size > size);
  mkdirSync(directory);
  await agent.client.call("ReopenContainerLog", { container_id: id });
  await until(() => existsSync(path) && statSync(path).size > 0);
  // nothing was lost or doubled on the way
  await agent.client.call("StopContainer", { container_id: id });
  const lines = [...(await readLog(old)), ...(await readLog(path))].map(({ text }) => Number(text.slice(5)));
  const [first = 0] = lines;
  assert.deepEqual(
    lines,
    Array.from(lines, (_, index) => first + index),
  );
});
