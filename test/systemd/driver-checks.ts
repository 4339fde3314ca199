/** Runs where systemd is PID 1 (test/integration/systemd-driver.test.ts): pods in scopes. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { runtime } from "../../cri-proto/generated/runtime.js";
import type { TestAgent } from "../support/agent.js";
import {
  createContainer,
  fails,
  hostPidOf,
  out,
  podConfig,
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
  memoryRoot,
  propertiesOf,
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

test("the kubelet is told of it", async () => {
  const { linux } = await agent.client.call("RuntimeConfig", {});
  assert.equal(linux?.cgroup_driver, runtime.v1.CgroupDriver.SYSTEMD);
});

test("a pod is one scope, delegated, with its monitor and its containers in cgroups below", async () => {
  const pod = await runPod(agent);
  const unit = `berth-${pod.id}.scope`;
  assert.deepEqual(await propertiesOf(unit), {
    ActiveState: "active",
    ControlGroup: `/berth.slice/${unit}`,
    Delegate: "yes",
    Slice: "berth.slice",
    TasksMax: "infinity",
  });
  const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
  assert.deepEqual(cgroupsOf(await hostPidOf(agent, id)), new Set([`/berth.slice/${unit}/${id}`]));
  assert.deepEqual(cgroupsOf(await monitorPidOf(pod.id)), new Set([`/berth.slice/${unit}/monitor`]));
  assert.equal(memoryLimit(`/berth.slice/${unit}/${id}`), limit);
  assert.equal(await out(agent, id, "echo alive"), "alive");
  await removePod(agent, pod);
  await untilScopesAre([]);
});

for (const parent of [`${burstable}/kubepods-burstable-pod1_1.slice`, "kubepods-burstable-pod1_2.slice"]) {
  test(`a parent as the kubelet names it: ${parent}`, async () => {
    const pod = await runPod(agent, { linux: { cgroup_parent: parent } });
    const { ControlGroup } = await propertiesOf(`berth-${pod.id}.scope`);
    assert.equal(ControlGroup, `${burstable}/${parent.split("/").at(-1)}/berth-${pod.id}.scope`);
    const id = await runContainer(agent, pod, { ...sh("sleep 1000"), linux: limits });
    assert.equal(memoryLimit(`${ControlGroup}/${id}`), limit);
    await removePod(agent, pod);
  });
}

for (const [parent, sentence] of [
  ["/kubepods/burstable/pod1", /cgroup_parent: "\/kubepods\/burstable\/pod1" is no systemd slice, .*RuntimeConfig/],
  ["/other.slice/kubepods-burstable.slice", /is not where systemd has kubepods-burstable\.slice/],
] as const) {
  test(`refused: the parent ${parent}`, async () => {
    const call = agent.client.call("RunPodSandbox", { config: podConfig(agent, { linux: { cgroup_parent: parent } }) });
    await fails(call, "INVALID_ARGUMENT", sentence);
    await agent.assertNothingLeft();
    await untilScopesAre([]);
  });
}

test("a container that cannot be created leaves its pod's scope as it was", async () => {
  const pod = await runPod(agent);
  const broken = { linux: { resources: { cpuset_cpus: "4000" } } };
  await fails(createContainer(agent, pod, broken), "INVALID_ARGUMENT", /cpuset_cpus/);
  assert.deepEqual(
    readdirSync(join(memoryRoot(), "berth.slice", `berth-${pod.id}.scope`)).filter((name) =>
      /^[0-9a-f]{64}$/.test(name),
    ),
    [],
  );
  await removePod(agent, pod);
});

async function monitorPidOf(podId: string): Promise<number> {
  const { info } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: podId, verbose: true });
  return Number((JSON.parse(info?.["info"] ?? "{}") as { pid: number }).pid);
}
