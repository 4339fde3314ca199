/**
 * All at once: a container writes as much as it can, its log is rotated every second and every line is checked; execs run into
 * their timeouts with trees that fork away; clients exec and attach; and the agent is killed in the midst of it, again and
 * again. BERTH_ROTATIONS sets for how many seconds.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { renameSync, statSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftProcesses } from "../support/leaks.js";
import { openRemoteCommand } from "../support/spdy-client.js";
import { WebSocketClient } from "../support/websocket-client.js";
import {
  containerStatus,
  exec,
  importBusybox,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
  waitExited,
} from "../support/workload.js";

const rotations = Number(process.env["BERTH_ROTATIONS"] ?? 4);
const killEvery = 2;
const padding = "x".repeat(150);

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

/** Until it succeeds: while the agent is away there is nobody to answer. */
async function persist<T>(call: () => Promise<T>): Promise<T> {
  for (const end = Date.now() + 60_000; ; await sleep(20)) {
    try {
      return await call();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

/** Whole records in the order of their lines' numbers, from 1 on, over all files. Answers how many. */
function checkLines(paths: string[]): number {
  // the last line of one that was killed may be a part of it
  const program = [
    "cut { exit 1 }",
    '$3 == "P" { cut = 1; next }',
    `NF != 5 || $2 != "stdout" || $3 != "F" || $4 != NR || $5 != "${padding}" { print FILENAME, $0; exit 1 }`,
    "END { print NR }",
  ].join("\n");
  const { status, stdout } = spawnSync("awk", [program, ...paths], { encoding: "latin1" });
  assert.equal(status, 0, `where the next line was to come: ${stdout}`);
  return Number(stdout);
}

test(`${rotations} rotations, a second each, with execs, clients and kills of the agent`, async () => {
  const writer = await runContainer(agent, pod, sh(`yes ${padding} | nl`));
  const other = await runContainer(agent, pod, { ...sh("while read -r line; do echo $line; done"), stdin: true });
  const path = (await containerStatus(agent, writer)).log_path ?? "";
  const stop = new AbortController();
  const did = { timeouts: 0, execs: 0, attaches: 0 };
  /** what the kill cuts off is nothing to them */
  const again = async (once: () => Promise<void>) => {
    while (!stop.signal.aborted) {
      await once().catch(() => undefined);
      await sleep(20);
    }
  };
  const timeOut = async () => {
    const tree = "setsid sh -c 'sleep 7771 & sleep 7772' & (sleep 7773 &); sleep 7774";
    const failed = await exec(agent, other, tree, 1).then(
      () => "",
      (error: { details?: string; code?: number }) => (error.code === 4 ? "DEADLINE_EXCEEDED" : ""),
    );
    if (failed === "DEADLINE_EXCEEDED") did.timeouts++;
  };
  const stream = async () => {
    const wanted = { stdin: true, stdout: true, stderr: true };
    const { url } = await agent.client.call("Exec", { container_id: other, cmd: ["cat"], ...wanted });
    const command = await openRemoteCommand(url, wanted);
    command.stdin?.write("x".repeat(100_000), true);
    await command.ended();
    assert.equal(command.stdout?.text.length, 100_000);
    did.execs++;
  };
  const attach = async () => {
    const { url } = await agent.client.call("Attach", { container_id: other, stdin: true, stdout: true });
    const client = await WebSocketClient.open(url);
    client.send(0, "y\n");
    await client.until("the answer", () => client.bytes(1).length > 0);
    client.destroy();
    did.attaches++;
  };
  const working = [again(timeOut), again(timeOut), again(stream), again(attach)];
  const files: string[] = [];
  try {
    for (let rotation = 0; rotation < rotations; rotation++) {
      const rotated = `${path}.${rotation}`;
      await sleep(1_000);
      renameSync(path, rotated);
      const reopened = persist(() => agent.client.call("ReopenContainerLog", { container_id: writer }));
      if (rotation % killEvery === killEvery - 1) {
        await agent.kill9();
        await agent.restart();
      }
      await reopened;
      files.push(rotated);
      assert.ok(statSync(rotated).size > 0, "nothing was written within a second");
    }
    for (const end = Date.now() + 60_000; Object.values(did).includes(0); await sleep(50)) {
      if (Date.now() > end) assert.fail(JSON.stringify(did));
    }
  } finally {
    stop.abort();
    await Promise.all(working);
  }
  await agent.client.call("StopContainer", { container_id: writer });
  await waitExited(agent, writer, 60_000);
  const lines = checkLines([...files, path]);
  assert.ok(lines > 10_000, `${lines} lines`);
  await persist(async () => {
    const left = leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).map(({ what }) => what);
    assert.deepEqual(
      left.filter((what) => /sleep 777|cat/.test(what)),
      [],
    );
  });
  await removePod(agent, pod);
});
