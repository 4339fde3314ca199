/** A disk that takes nothing for a while: a frozen file system, where every write waits in the kernel. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { lacksFileSystem, makeFileSystem } from "../support/file-systems.js";
import {
  exec,
  fails,
  importBusybox,
  out,
  readLog,
  removePod,
  runContainer,
  runPod,
  sh,
  waitExited,
} from "../support/workload.js";

let agent: TestAgent;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
});

after(() => agent.stop());

function lacking(): string | undefined {
  return lacksFileSystem("ext4") ?? (spawnSync("fsfreeze", ["-V"]).error === undefined ? undefined : "no fsfreeze");
}

test("execs, their timeouts and stops do not wait for it; nothing that was written is lost", async (t) => {
  const lacks = lacking();
  if (lacks !== undefined) return t.skip(lacks);
  const disk = makeFileSystem("ext4", 64);
  let frozen = false;
  const thaw = () => {
    if (frozen) execFileSync("fsfreeze", ["-u", disk.path]);
    frozen = false;
  };
  try {
    const pod = await runPod(agent, { log_directory: disk.path });
    const script = "i=0; while [ $i -lt 60000 ]; do echo line-$i; i=$((i+1)); done; exit 3";
    const other = await runContainer(agent, pod, sh("while :; do echo other; sleep 0.01; done"));
    const writer = await runContainer(agent, pod, { ...sh(`until [ -e /go ]; do sleep 0.01; done; ${script}`) });
    execFileSync("fsfreeze", ["-f", disk.path]);
    frozen = true;
    await exec(agent, writer, "touch /go");
    // more than its pipe takes: it waits
    for (let quiet = 0, last = ""; quiet < 5; await sleep(100)) {
      const progress = await out(agent, writer, "cat /proc/1/io");
      quiet = progress === last ? quiet + 1 : 0;
      last = progress;
    }
    assert.equal(await out(agent, other, "echo $((6*7))"), "42");
    await fails(exec(agent, other, "setsid sleep 777 & sleep 778", 1), "DEADLINE_EXCEEDED", /1/);
    assert.equal(await out(agent, other, "pgrep -f 'sleep 77[78]' | wc -l"), "0");
    await agent.client.call("StopContainer", { container_id: other });
    assert.equal((await waitExited(agent, other)).exit_code, 137);
    thaw();
    const ended = await waitExited(agent, writer, 60_000);
    assert.equal(ended.exit_code, 3);
    assert.deepEqual(
      (await readLog(ended.log_path ?? "")).map(({ text }) => text),
      Array.from({ length: 60_000 }, (_, index) => `line-${index}`),
    );
    await removePod(agent, pod);
  } finally {
    thaw();
    await disk.close();
  }
});
