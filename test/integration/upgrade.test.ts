/**
 * An upgrade under running pods: their monitors are those of the version before. The agent of a next version is this one
 * with other numbers of the protocol, in a copy of the build.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type AgentOptions, startAgent, type TestAgent } from "../support/agent.js";
import { copyBuild } from "../support/other-build.js";
import {
  ContainerState,
  containerStatus,
  createContainer,
  exec,
  fails,
  hostPidOf,
  importBusybox,
  out,
  PodSandboxState,
  podStatus,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
  waitExited,
} from "../support/workload.js";

const options: AgentOptions = {};
let agent: TestAgent;
let pod: RunningPod;
let container: string;
let pid: number;

before(async () => {
  agent = await startAgent(options);
  await importBusybox(agent);
  pod = await runPod(agent);
  container = await runContainer(agent, pod);
  pid = await hostPidOf(agent, container);
});
after(() => agent.stop());

/** Ends the agent and starts one that speaks these versions of the protocol with monitors. */
async function upgrade(oldest: number, newest: number): Promise<void> {
  const copy = join(agent.paths.base, `build-${oldest}-${newest}`);
  const program = copyBuild(copy);
  const file = join(copy, "dist/sandbox/monitor-client.js");
  const code = readFileSync(file, "utf8");
  const changed = code.replace(
    "{ oldest_version: 1, newest_version: 1 }",
    `{ oldest_version: ${oldest}, newest_version: ${newest} }`,
  );
  assert.notEqual(changed, code);
  writeFileSync(file, changed);
  options.program = program;
  await agent.restart();
}

test("an agent that speaks the monitors' version and a newer one manages their pods as before", async () => {
  await upgrade(1, 2);
  assert.equal(await hostPidOf(agent, container), pid);
  assert.equal(await out(agent, container, "echo alive"), "alive");
  const next = await runContainer(agent, pod, sh("exit 3"));
  assert.equal((await waitExited(agent, next)).exit_code, 3);
});

test("an agent that does not speak it leaves their pods running, says so in its calls, and can stop them", async () => {
  const [created, second] = [await createContainer(agent, pod), await runContainer(agent, pod)];
  await upgrade(2, 2);
  process.kill(pid, 0);
  assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_READY);
  assert.equal((await containerStatus(agent, container)).state, ContainerState.CONTAINER_RUNNING);
  await fails(exec(agent, container, ["true"]), "FAILED_PRECONDITION", /monitor of another version of Berth/);
  // killed they are all the same
  await agent.client.call("RemoveContainer", { container_id: created });
  const stopped = agent.client.call("StopContainer", { container_id: second });
  await fails(
    stopped,
    "FAILED_PRECONDITION",
    /was killed; its pod's monitor, which tells its end, cannot be talked to/,
  );
  assert.match(agent.logs(), /this monitor speaks version 1 of the protocol/);
  process.kill(pid, 0);

  // back to the version before: nothing has happened
  delete options.program;
  await agent.restart();
  assert.equal(await out(agent, container, "echo alive"), "alive");
  assert.equal((await containerStatus(agent, second)).exit_code, 137);

  options.program = join(agent.paths.base, "build-2-2/dist/agent/cli/main.js");
  await agent.restart();
  await removePod(agent, pod);
  await agent.assertNothingLeft();
  assert.throws(() => process.kill(pid, 0), /ESRCH/);
  delete options.program;
  await agent.restart();
});
