/** An agent on a host that has not mounted a cgroup controller: what it says of it, and what goes on without. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  createContainer,
  fails,
  importBusybox,
  long,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
} from "../support/workload.js";

const mountPoints = ["memory", "pids"].map(
  (name) =>
    openCgroupManager().hierarchies.find(({ version, controllers }) => version === 1 && controllers.includes(name))
      ?.mountPoint,
);

describe("without the controllers memory and pids", {
  skip: mountPoints.includes(undefined) ? "cgroup v2 has all controllers in one mount" : false,
}, () => {
  let agent: TestAgent;
  let pod: RunningPod;
  let id = "";

  before(async () => {
    // in a mount namespace of its own
    const script = `umount ${mountPoints.join(" ")} && exec "$@"`;
    agent = await startAgent({ wrapper: ["unshare", "--mount", "sh", "-c", script, "sh"] });
    await importBusybox(agent);
    pod = await runPod(agent);
    id = await runContainer(agent, pod, { linux: { resources: { cpu_shares: long(100) } } });
  });
  after(async () => {
    await removePod(agent, pod);
    await agent.stop();
  });

  it("Status says what that costs, and what helps", async () => {
    const { status, info } = await agent.client.call("Status", { verbose: true });
    const ready = status?.conditions?.find(({ type }) => type === "RuntimeReady");
    assert.equal(ready?.status ?? false, false);
    assert.match(ready?.message ?? "", /"memory" is missing: memory limits cannot be set.* Mount it at /);
    const { cgroup } = JSON.parse(info["info"] ?? "{}") as { cgroup: { missingControllers: string[] } };
    for (const name of ["memory", "pids"]) assert.ok(cgroup.missingControllers.includes(name), name);
  });

  for (const [field, resources] of [
    ["memory_limit_in_bytes cannot be applied: this host has no memory", { memory_limit_in_bytes: long(64 << 20) }],
    ["pids.limit cannot be applied: this host has no pids", { unified: { "pids.max": "9" } }],
  ] as const) {
    it(`a limit that needs one fails: ${field} controller`, async () => {
      const sentence = new RegExp(`${field} controller`);
      await fails(createContainer(agent, pod, { linux: { resources } }), "FAILED_PRECONDITION", sentence);
      const update = agent.client.call("UpdateContainerResources", { container_id: id, linux: resources });
      await fails(update, "FAILED_PRECONDITION", sentence);
      const { containers } = await agent.client.call("ListContainers", {});
      assert.equal(containers.length, 1);
    });
  }

  it("statistics have what the other controllers tell, and no zeros for these", async () => {
    const { stats } = await agent.client.call("ContainerStats", { container_id: id });
    assert.ok(Number(stats?.cpu?.usage_core_nano_seconds?.value) > 0);
    assert.equal(stats?.memory?.usage_bytes ?? null, null);
    assert.equal(stats?.memory?.working_set_bytes ?? null, null);
    const text = await (await fetch(agent.metricsUrl)).text();
    assert.ok(text.includes("\ncontainer_cpu_usage_seconds_total{"));
    for (const name of ["container_memory_usage_bytes", "container_threads"])
      assert.ok(!text.includes(`\n${name}{`), name);
  });
});
