/** What is executed on a container's way: its own program, and nothing else. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { executionsDuring, whatExecutionsLack } from "../support/executions.js";
import {
  exec,
  importBusybox,
  monitorPidOf,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
} from "../support/workload.js";

describe("programs that are executed", { skip: whatExecutionsLack() ?? false }, () => {
  let agent: TestAgent;
  let pod: RunningPod;

  before(async () => {
    agent = await startAgent();
    await importBusybox(agent);
    pod = await runPod(agent);
  });

  after(() => agent.stop());

  test("for a pod: its monitor", async () => {
    const executed = await executionsDuring([agent.pid], async () => removePod(agent, await runPod(agent)));
    assert.equal(executed.length, 1, executed.join(" "));
    assert.match(executed[0] ?? "", /berth-monitor$|^\/dev\/fd\/\d+$/);
  });

  test("between CreateContainer and its program: nothing; for an exec: its command", async () => {
    const pids = [agent.pid, await monitorPidOf(agent, pod.id)];
    const executed = await executionsDuring(pids, async () => {
      const id = await runContainer(agent, pod, { command: ["/bin/sleep", "1000"] });
      assert.equal((await exec(agent, id, ["/bin/true"])).exitCode, 0);
      await agent.client.call("RemoveContainer", { container_id: id });
    });
    assert.deepEqual(executed, ["/bin/sleep", "/bin/true"]);
  });
});
