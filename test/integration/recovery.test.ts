/** The agent is killed with SIGKILL, at rest and in the middle of its work, and started again. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftProcesses } from "../support/leaks.js";
import {
  ContainerState,
  containerConfig,
  containerStatus,
  createContainer,
  exec,
  hostPidOf,
  importBusybox,
  long,
  out,
  PodSandboxState,
  podConfig,
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

afterEach(async () => {
  const { items } = await agent.client.call("ListPodSandbox", {});
  await Promise.all(items.map(({ id }) => removePod(agent, { id: id ?? "", config: {} })));
  await agent.assertNothingLeft();
});

async function killAndRestart(whileDown: () => Promise<unknown> = async () => undefined): Promise<void> {
  await agent.kill9();
  await whileDown();
  await agent.restart();
}

test("pods and containers run on, with their processes, addresses and records", async () => {
  const pod = await runPod(agent, { labels: { a: "b" } });
  const running = await runContainer(agent, pod, sh("echo before; sleep 1000"));
  const created = await createContainer(agent, pod, sh("exit 4"));
  const before = { pod: await podStatus(agent, pod.id), container: await containerStatus(agent, running) };
  const pid = await hostPidOf(agent, running);
  await killAndRestart();
  assert.deepEqual({ pod: await podStatus(agent, pod.id), container: await containerStatus(agent, running) }, before);
  assert.equal(await hostPidOf(agent, running), pid);
  assert.equal(await out(agent, running, ["echo", "alive"]), "alive");
  await agent.client.call("StartContainer", { container_id: created });
  assert.equal((await waitExited(agent, created)).exit_code, 4);
  assert.notEqual((await podStatus(agent, (await runPod(agent)).id)).network?.ip, before.pod.network?.ip);
});

test("what ends while no agent runs is told with its own code, reason and time; its log is whole", async () => {
  const pod = await runPod(agent);
  const script = "i=0; while [ $i -lt 50 ]; do echo $i; i=$((i+1)); usleep 10000; done; exit 42";
  const id = await runContainer(agent, pod, sh(script));
  const begun = BigInt(Date.now()) * 1_000_000n;
  let away = 0n;
  await killAndRestart(async () => {
    await sleep(2_500);
    away = BigInt(Date.now()) * 1_000_000n;
  });
  const status = await containerStatus(agent, id);
  assert.deepEqual([status.state, status.exit_code, status.reason], [ContainerState.CONTAINER_EXITED, 42, "Error"]);
  const lastedNs = BigInt(String(status.finished_at)) - begun;
  assert.ok(lastedNs > 300_000_000n && begun + lastedNs < away, `${lastedNs} ns`);
  const lines = (await readLog(status.log_path ?? "")).map(({ text }) => Number(text));
  assert.deepEqual(
    lines,
    Array.from({ length: 50 }, (_, index) => index),
  );
});

test("a container that is killed for memory while no agent runs is OOMKilled", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod, {
    command: ["sh", "-c", "usleep 300000; exec dd if=/dev/zero of=/dev/null bs=100M count=1"],
    linux: { resources: { memory_limit_in_bytes: long(32 * 1024 * 1024) } },
  });
  await killAndRestart(() => sleep(1_000));
  const status = await containerStatus(agent, id);
  assert.deepEqual([status.exit_code, status.reason], [137, "OOMKilled"]);
});

test("a monitor that dies while no agent runs: its pod is not ready, nothing of it lives", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod);
  await killAndRestart(async () => {
    const scope = { run: agent.paths.run, cgroupRoot: agent.cgroupRoot };
    for (const { pid, what } of leftProcesses(scope)) if (what.includes("berth-monitor")) process.kill(pid, "SIGKILL");
    await sleep(100);
  });
  assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_NOTREADY);
  assert.equal((await containerStatus(agent, id)).state, ContainerState.CONTAINER_EXITED);
  assert.deepEqual(leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }), []);
});

test("an exec that was running when the agent was killed does not hold up anything", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod);
  const lost = exec(agent, id, ["sleep", "300"], 0).catch(() => "lost");
  await exec(agent, id, ["true"]);
  await killAndRestart();
  assert.equal(await lost, "lost");
  assert.equal((await exec(agent, id, ["true"])).exitCode, 0);
});

test("images are there after a kill", async () => {
  await killAndRestart();
  assert.equal((await agent.client.call("ListImages", {})).images.length, 1);
});

test("killed at any moment of RunPodSandbox: the pod is whole, or there is nothing of it", async () => {
  for (let round = 0; round < 20; round++) {
    const config = podConfig(agent);
    const call = agent.client.call("RunPodSandbox", { config }).catch(() => undefined);
    await sleep(round * 1.5);
    await killAndRestart();
    const answer = await call;
    const { items } = await agent.client.call("ListPodSandbox", {});
    assert.ok(items.length <= 1);
    if (answer !== undefined) assert.equal(items[0]?.id, answer.pod_sandbox_id);
    if (items.length === 0) assert.ok(!existsSync(config.log_directory ?? ""), `round ${round}: the logs' directory`);
    for (const { id, state } of items) {
      assert.equal(state, PodSandboxState.SANDBOX_READY);
      const pod = { id: id ?? "", config };
      assert.equal(await out(agent, await runContainer(agent, pod), ["echo", "works"]), "works");
      await removePod(agent, pod);
    }
    await agent.assertNothingLeft();
  }
});

test("killed at any moment of a container's life: it works, or there is nothing of it", async () => {
  const pod = await runPod(agent);
  for (let round = 0; round < 20; round++) {
    const config = containerConfig();
    const question = { pod_sandbox_id: pod.id, config, sandbox_config: pod.config };
    const life = (async () => {
      const { container_id } = await agent.client.call("CreateContainer", question);
      await agent.client.call("StartContainer", { container_id });
      await agent.client.call("StopContainer", { container_id });
      await agent.client.call("RemoveContainer", { container_id });
    })().catch(() => undefined);
    await sleep(round * 2);
    await killAndRestart();
    await life;
    const { containers } = await agent.client.call("ListContainers", {});
    assert.ok(containers.length <= 1);
    for (const { id } of containers) {
      if ((await containerStatus(agent, id ?? "")).state === ContainerState.CONTAINER_CREATED) {
        await agent.client.call("StartContainer", { container_id: id ?? "" });
      }
      await agent.client.call("RemoveContainer", { container_id: id ?? "" });
    }
    // what was the container's is deleted after the answer, and the pod's monitor is the one process that stays
    for (let tries = 0; ; tries++) {
      const left = leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot });
      const directories = readdirSync(`${agent.paths.root}/containers`);
      if (left.length === 1 && directories.length === 0) break;
      assert.ok(tries < 500, JSON.stringify({ left, directories }));
      await sleep(10);
    }
  }
});

test("killed at any moment of stop and remove: the next stop and remove finish it", async () => {
  for (let round = 0; round < 15; round++) {
    const pod = await runPod(agent);
    await runContainer(agent, pod, sh("trap '' TERM; sleep 1000 & wait"));
    const call = removePod(agent, pod).catch(() => undefined);
    await sleep(round);
    await killAndRestart();
    await call;
    await removePod(agent, pod);
    await agent.assertNothingLeft();
  }
});

test("a torn record is told, and does not keep the agent from starting", async () => {
  const pod = await runPod(agent);
  const records = `${agent.paths.root}/state/pods`;
  assert.ok(existsSync(`${records}/${pod.id}.json`));
  await agent.kill9();
  const torn = `${records}/${"0".repeat(64)}.json`;
  writeFileSync(torn, '{"version": 1, "id": "0');
  await agent.restart();
  assert.equal(existsSync(torn), false);
  assert.match(agent.logs(), new RegExp(torn));
  assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_READY);
});

test("a removal that the kill cut off after the root file system went is finished at the next start", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod, sh("exit 0"));
  await waitExited(agent, id);
  await killAndRestart(async () => rmSync(join(agent.paths.root, "containers", id), { recursive: true }));
  await agent.client.call("ImageFsInfo", {});
  assert.deepEqual((await agent.client.call("ListContainers", {})).containers, []);
});
