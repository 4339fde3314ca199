/**
 * Cgroup parents that nobody else has made, when what is being made in a pod outlives it: a creation that is taken back, and
 * that a poststop hook holds up, has a cgroup below them yet when the pods that they were made for are gone.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups } from "../support/leaks.js";
import { until } from "../support/until.js";
import { containerConfig, importBusybox, type RunningPod, removePod, runPod } from "../support/workload.js";

let agent: TestAgent;
let base: string;

before(async () => {
  base = mkdtempSync(join(tmpdir(), "berth-parents-"));
  mkdirSync(join(base, "hooks.d"));
  const waitFor = (name: string) =>
    `cat > /dev/null; touch ${base}/${name}; while [ ! -e ${base}/end-${name} ]; do sleep 0.01; done`;
  for (const stage of ["createRuntime", "poststop"]) {
    const hook = { path: "/bin/sh", args: ["sh", "-c", waitFor(stage)], env: ["PATH=/bin:/usr/bin"] };
    const content = { version: "1.0.0", hook, when: { always: true }, stages: [stage] };
    writeFileSync(join(base, "hooks.d", `${stage}.json`), JSON.stringify(content));
  }
  agent = await startAgent({ flags: { "hooks-dir": join(base, "hooks.d") } });
  await importBusybox(agent);
});

beforeEach(() => {
  for (const stage of ["createRuntime", "poststop"]) {
    for (const name of [stage, `end-${stage}`]) rmSync(join(base, name), { force: true });
  }
});

after(async () => {
  await agent.stop();
  rmSync(base, { recursive: true });
});

const podIn = (parent: string) =>
  runPod(agent, { linux: { cgroup_parent: `${agent.cgroupRoot}/kubepods/be/${parent}` } });

/** Two pods: the first one's parents are the second's, too; in that a container is being made. */
async function twoPods(): Promise<{ first: RunningPod; second: RunningPod; creating: Promise<unknown> }> {
  const first = await podIn("first");
  const second = await podIn("second");
  const question = { pod_sandbox_id: second.id, config: containerConfig(), sandbox_config: second.config };
  const creating = agent.client.call("CreateContainer", question).then(
    () => assert.fail("the container was created"),
    () => undefined,
  );
  await until(() => existsSync(join(base, "createRuntime")));
  return { first, second, creating };
}

/** The pod goes; the taking back of the creation stops at its poststop hook. */
async function removeSecond(second: RunningPod): Promise<void> {
  await removePod(agent, second);
  writeFileSync(join(base, "end-createRuntime"), "");
  await until(() => existsSync(join(base, "poststop")));
}

const nothing = () => until(() => leftCgroups(agent.cgroupRoot).length === 0);

test("they go with the creation when all pods are gone", async () => {
  const { first, second, creating } = await twoPods();
  await removeSecond(second);
  await removePod(agent, first);
  assert.ok(leftCgroups(agent.cgroupRoot).length > 0);
  writeFileSync(join(base, "end-poststop"), "");
  await creating;
  await nothing();
});

for (const [last, order] of [
  ["the pod of the creation", ["first", "second"]],
  ["another pod", ["second", "first"]],
] as const) {
  test(`the next agent takes them away when this one is killed after ${last} was removed`, async () => {
    const { first, second, creating } = await twoPods();
    for (const which of order) await (which === "first" ? removePod(agent, first) : removeSecond(second));
    await agent.kill9();
    await creating;
    writeFileSync(join(base, "end-poststop"), "");
    await agent.restart();
    await nothing();
  });
}
