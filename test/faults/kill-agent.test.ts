/**
 * The agent is killed with SIGKILL again and again while pods come and go. Afterwards everything that it had is compared
 * with before: mounts, namespaces, veths, cgroups, addresses, processes, directories. BERTH_KILLS sets how often.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { importBusybox, runContainer, runPod, sh } from "../support/workload.js";

const kills = Number(process.env["BERTH_KILLS"] ?? 25);
const churners = 4;

let agent: TestAgent;
let image: string;

before(async () => {
  agent = await startAgent();
  image = await importBusybox(agent);
});

after(() => agent.stop());

/** pods that lived from their start to their removal */
let whole = 0;

/** Makes, uses and removes pods until it is told to stop; a call that the kill cut off is nothing to it. */
async function churn(number: number, until: AbortSignal): Promise<void> {
  for (let round = 0; !until.aborted; round++) {
    const hostNetwork = (round + number) % 4 === 0;
    try {
      const pod = await runPod(agent, {
        linux: {
          security_context: { namespace_options: { network: hostNetwork ? 2 : 0, pid: round % 3 === 0 ? 0 : 1 } },
        },
      });
      const container = await runContainer(agent, pod, sh("echo hello; sleep 1000"));
      await agent.client.call("ExecSync", { container_id: container, cmd: ["true"] });
      await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
      await agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
      whole += 1;
    } catch {
      // between the kill and the next start there is nobody to call
      await sleep(20);
    }
  }
}

/** All but those of other tests that run at the same time: below their directories in /tmp, and namespaces that `ip` names. */
function mountPoints(): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((path) => !/^\/(tmp|run\/netns)\//.test(path));
}

test(`${kills} kills during pod churn leave nothing`, async () => {
  const before = new Set(mountPoints());
  const stop = new AbortController();
  const running = Array.from({ length: churners }, (_, number) => churn(number, stop.signal));
  try {
    for (let kill = 0; kill < kills; kill++) {
      // from right after the start to the middle of many pods' lives, each time at another point
      await sleep((kill * 37) % 230);
      await agent.kill9();
      await agent.restart();
    }
    // on a busy machine none may have had the time between two kills
    for (let tries = 0; whole === 0 && tries < 3_000; tries++) await sleep(10);
  } finally {
    stop.abort();
  }
  await Promise.all(running);
  assert.ok(whole > 0, "not one pod lived through");

  const { items } = await agent.client.call("ListPodSandbox", {});
  for (const { id } of items) await agent.client.call("RemovePodSandbox", { pod_sandbox_id: id ?? "" });
  assert.deepEqual((await agent.client.call("ListContainers", {})).containers, []);
  await agent.assertNothingLeft();
  assert.deepEqual(
    mountPoints().filter((path) => !before.has(path)),
    [],
  );
  const { images } = await agent.client.call("ListImages", {});
  assert.deepEqual(
    images.map(({ id }) => id),
    [image],
  );
});

test("all addresses are free again, and the agent holds no more descriptors than it began with", async () => {
  const descriptors = () => readdirSync(`/proc/${agent.pid}/fd`).length;
  const pod = await runPod(agent);
  await agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
  const begun = descriptors();
  for (let i = 0; i < 30; i++) {
    const { id } = await runPod(agent);
    await agent.client.call("RemovePodSandbox", { pod_sandbox_id: id });
  }
  await sleep(100);
  assert.ok(descriptors() <= begun, `${descriptors()} descriptors, ${begun} at first`);
});
