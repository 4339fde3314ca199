/** A disk that takes nothing for a while: a frozen file system, where every write waits in the kernel. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { lacksFileSystem, makeFileSystem } from "../support/file-systems.js";
import { until } from "../support/until.js";
import {
  createContainer,
  exec,
  fails,
  importBusybox,
  out,
  PodSandboxState,
  podStatus,
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

/** A disk of the test's own that can be frozen. The test is skipped where there can be none. */
async function withDisk(
  t: TestContext,
  use: (disk: { path: string; freeze(): void; thaw(): void }) => Promise<void>,
): Promise<void> {
  const lacks = lacking();
  if (lacks !== undefined) return t.skip(lacks);
  const { path, close } = makeFileSystem("ext4", 64);
  let frozen = false;
  const freeze = () => {
    execFileSync("fsfreeze", ["-f", path]);
    frozen = true;
  };
  const thaw = () => {
    if (frozen) execFileSync("fsfreeze", ["-u", path]);
    frozen = false;
  };
  try {
    await use({ path, freeze, thaw });
  } finally {
    thaw();
    await close();
  }
}

function waitsForDisk(pid: number): boolean {
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.some((thread) => /^State:\tD/m.test(readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8")));
}

test("execs, their timeouts and stops do not wait for it; nothing that was written is lost", async (t) => {
  await withDisk(t, async (disk) => {
    const pod = await runPod(agent, { log_directory: disk.path });
    const script = "i=0; while [ $i -lt 60000 ]; do echo line-$i; i=$((i+1)); done; exit 3";
    const other = await runContainer(agent, pod, sh("while :; do echo other; sleep 0.01; done"));
    const writer = await runContainer(agent, pod, { ...sh(`until [ -e /go ]; do sleep 0.01; done; ${script}`) });
    disk.freeze();
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
    disk.thaw();
    const ended = await waitExited(agent, writer, 60_000);
    assert.equal(ended.exit_code, 3);
    assert.deepEqual(
      (await readLog(ended.log_path ?? "")).map(({ text }) => text),
      Array.from({ length: 60_000 }, (_, index) => `line-${index}`),
    );
    await removePod(agent, pod);
  });
});

test("a pod that is stopped while a container's log is being opened ends when it is open, and leaves nothing", async (t) => {
  await withDisk(t, async (disk) => {
    const pod = await runPod(agent, { log_directory: disk.path });
    const { info } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: pod.id, verbose: true });
    const { pid } = JSON.parse(info["info"] ?? "{}") as { pid: number };
    disk.freeze();
    const refused = fails(createContainer(agent, pod), "FAILED_PRECONDITION", /stopp/);
    await until(() => waitsForDisk(pid));
    const stopping = agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
    const began = performance.now();
    while ((await podStatus(agent, pod.id)).state === PodSandboxState.SANDBOX_READY) await sleep(10);
    disk.thaw();
    await stopping;
    const ms = performance.now() - began;
    // after ten seconds it would have been killed
    assert.ok(ms < 8_000, `${ms} ms`);
    await refused;
    await agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
    await agent.assertNothingLeft();
  });
});
