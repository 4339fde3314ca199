/** Runs where systemd is PID 1 (test/integration/systemd-restarts.test.ts): what happens to pods in scopes, and to systemd. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { runtime } from "../../cri-proto/generated/runtime.js";
import type { TestAgent } from "../support/agent.js";
import {
  fails,
  hostPidOf,
  out,
  podConfig,
  podStatus,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";
import {
  burstable,
  cgroupsOf,
  limit,
  limits,
  memoryLimit,
  propertiesOf,
  run,
  startDriver,
  untilScopesAre,
} from "./support.js";

let agent: TestAgent;

before(async () => {
  agent = await startDriver();
});
after(async () => {
  await agent.stop();
  await untilScopesAre([]);
});

test("pods come and go in one slice, where systemd tidies up after each", async () => {
  const parent = "kubepods-burstable-pod1_3.slice";
  await Promise.all(
    [1, 2, 3].map(async () => {
      for (let round = 0; round < 6; round++) {
        const pod = await runPod(agent, { linux: { cgroup_parent: parent } });
        const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
        assert.equal(memoryLimit(`${burstable}/${parent}/berth-${pod.id}.scope/${id}`), limit);
        await removePod(agent, pod);
      }
    }),
  );
});

test("systemd reloads and re-executes itself: limits stay, execs work, pods start and stop meanwhile", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
  const cgroup = `/berth.slice/berth-${pod.id}.scope/${id}`;
  for (const command of ["daemon-reload", "daemon-reexec"]) {
    const others = Promise.all([1, 2, 3].map(() => runPod(agent)));
    await run("systemctl", [command]);
    assert.equal(await out(agent, id, "echo alive"), "alive");
    for (const other of await others) await removePod(agent, other);
    assert.equal(memoryLimit(cgroup), limit);
    assert.deepEqual(cgroupsOf(await hostPidOf(agent, id)), new Set([cgroup]));
    assert.equal((await propertiesOf(`berth-${pod.id}.scope`)).ActiveState, "active");
  }
  await removePod(agent, pod);
});

test("the bus restarts, and the next pod connects anew; while it is away, a pod is refused and leaves nothing", async () => {
  await run("systemctl", ["restart", "dbus.service"]);
  await removePod(agent, await runPod(agent));
  await run("systemctl", ["stop", "dbus.socket", "dbus.service"]);
  const call = agent.client.call("RunPodSandbox", { config: podConfig(agent) });
  await fails(
    call,
    "FAILED_PRECONDITION",
    /systemd could not start berth-\S+\.scope in berth\.slice: .*system_bus_socket/,
  );
  await agent.assertNothingLeft();
  await run("systemctl", ["start", "dbus.socket"]);
  await removePod(agent, await runPod(agent));
});

test("systemd kills a scope: the pod is told as not ready", async () => {
  const pod = await runPod(agent);
  await runContainer(agent, pod, sh("sleep 1000"));
  await run("systemctl", ["kill", "--signal=KILL", `berth-${pod.id}.scope`]);
  for (
    const until = Date.now() + 20_000;
    (await podStatus(agent, pod.id)).state === runtime.v1.PodSandboxState.SANDBOX_READY;
    await sleep(50)
  ) {
    assert.ok(Date.now() < until, "still ready");
  }
  await removePod(agent, pod);
});

test("the agent is killed, also while it starts pods: what ran runs on, and nothing else is left", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
  for (let kill = 0; kill < 6; kill++) {
    const started = Promise.allSettled([1, 2].map(() => runPod(agent)));
    await sleep(kill * 12);
    await agent.kill9();
    await started;
    await agent.restart();
  }
  assert.equal(await out(agent, id, "echo alive"), "alive");
  const { items } = await agent.client.call("ListPodSandbox", {});
  const known = items.map((item) => `berth-${item.id}.scope`).sort();
  await untilScopesAre(known);
  for (const item of items) await removePod(agent, { id: item.id ?? "", config: podConfig(agent) });
});
