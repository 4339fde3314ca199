/** Pods whose cgroups somebody freezes or removes, the monitor's among them. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { WebSocketClient } from "../support/websocket-client.js";
import {
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  PodSandboxState,
  podStatus,
  removePod,
  runContainer,
  runPod,
  sh,
  untilWritten,
  waitExited,
} from "../support/workload.js";

const { hierarchies } = openCgroupManager();

/** Every way to freeze a cgroup that this host has. */
const freezers = hierarchies.flatMap(({ version, controllers, mountPoint }) => {
  const v1 = { what: "v1's freezer", file: "freezer.state", frozen: "FROZEN", thawed: "THAWED", mountPoint };
  const v2 = { what: "cgroup2's cgroup.freeze", file: "cgroup.freeze", frozen: "1", thawed: "0", mountPoint };
  return version === 2 ? [v2] : controllers.includes("freezer") ? [v1] : [];
});

let agent: TestAgent;
before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
});
after(() => agent.stop());

const stop = (container_id: string) => agent.client.call("StopContainer", { container_id, timeout: long(1) }, 60_000);

for (const { what, file, frozen, thawed, mountPoint } of freezers) {
  describe(`a pod that is frozen whole, by ${what}`, () => {
    const parent = () => `${agent.cgroupRoot}/kube/pod${freezers.findIndex((one) => one.file === file)}`;
    const write = (path: string, word: string) => writeFileSync(join(mountPoint, path, file), word);

    test("calls that need its monitor end, and its containers are stopped and removed as ever, also where its monitor alone is frozen", async () => {
      const pod = await runPod(agent, { linux: { cgroup_parent: parent() } });
      const id = await runContainer(agent, pod);
      const created = await createContainer(agent, pod);
      write(parent(), frozen);
      // it takes six seconds
      if (file === freezers[0]?.file) {
        const why = `is frozen with cgroup ${parent()}; write ${thawed} to`;
        const streams = { container_id: id, stdout: true };
        const { url: execUrl } = await agent.client.call("Exec", { ...streams, cmd: ["true"] });
        const { url: attachUrl } = await agent.client.call("Attach", streams);
        const refused = async (url: string) => {
          const { message } = await (await WebSocketClient.open(url)).ended(30_000);
          assert.match(message ?? "", new RegExp(why));
        };
        await Promise.all([
          fails(
            agent.client.call("ExecSync", { container_id: id, cmd: ["true"], timeout: long(1) }, 60_000),
            "DEADLINE_EXCEEDED",
            new RegExp(`ran into its timeout of 1 s: the pod's monitor ${why}`),
          ),
          fails(
            agent.client.call("ReopenContainerLog", { container_id: id }, 60_000),
            "FAILED_PRECONDITION",
            new RegExp(why),
          ),
          refused(execUrl),
          refused(attachUrl),
        ]);
      }
      await agent.client.call("RemoveContainer", { container_id: created }, 60_000);
      write(parent(), frozen);
      await stop(id);
      assert.equal((await containerStatus(agent, id)).exit_code, 137);
      const another = await runContainer(agent, pod);
      write(`${parent()}/berth-${pod.id}`, frozen);
      await stop(another);
      assert.equal((await containerStatus(agent, another)).exit_code, 137);
      await removePod(agent, pod);
    });

    test("an agent starts beside it, and stops it, or has it again when it goes on", async () => {
      const parents = ["stays", "goes-on"].map((name) => `${parent()}/${name}`);
      const pods = await Promise.all(parents.map((cgroup_parent) => runPod(agent, { linux: { cgroup_parent } })));
      const [, id = ""] = await Promise.all(pods.map((pod) => runContainer(agent, pod)));
      for (const path of parents) write(path, frozen);
      await agent.kill9();
      await agent.restart();
      for (const pod of pods) assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_READY);
      write(parents[1] ?? "", thawed);
      const executed = () => exec(agent, id, ["echo", "again"]).catch(() => undefined);
      for (const until = Date.now() + 30_000; (await executed())?.stdout !== "again\n"; await sleep(50)) {
        assert.ok(Date.now() < until, "the agent does not connect to the pod");
      }
      for (const pod of pods) await removePod(agent, pod);
    });

    test("with others it is not thawed; what cannot be killed then is told with the file", async () => {
      const pods = await Promise.all([1, 2].map(() => runPod(agent, { linux: { cgroup_parent: parent() } })));
      const [id = ""] = await Promise.all(pods.map((pod) => runContainer(agent, pod)));
      write(parent(), frozen);
      if (file === "freezer.state") {
        const sentence = new RegExp(`is frozen with cgroup ${parent()}; write THAWED to .*/freezer\\.state`);
        await fails(stop(id), "FAILED_PRECONDITION", sentence);
        const pod_sandbox_id = pods[0]?.id ?? "";
        await fails(agent.client.call("StopPodSandbox", { pod_sandbox_id }, 60_000), "FAILED_PRECONDITION", sentence);
      } else {
        const sentence = new RegExp(`was killed; .* is frozen with cgroup ${parent()}; write 0 to .*/cgroup\\.freeze`);
        await fails(stop(id), "FAILED_PRECONDITION", sentence);
      }
      assert.match(readFileSync(join(mountPoint, parent(), file), "utf8"), new RegExp(`^${frozen}`));
      write(parent(), thawed);
      if (file !== "freezer.state") assert.equal((await waitExited(agent, id, 30_000)).exit_code, 137);
      for (const pod of pods) await removePod(agent, pod);
    });
  });
}

test("a container whose cgroup somebody has emptied and removed is told as such, and stopped and removed as ever", async () => {
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod, sh("echo up; sleep 1000"));
  await untilWritten(agent, id, "up");
  // v1's first: without the one an exec cannot join, without cgroup2's it cannot make its own
  for (const { mountPoint } of [...hierarchies].sort((one, other) => one.version - other.version)) {
    const directory = join(mountPoint, agent.cgroupRoot, id);
    const pids = readFileSync(join(directory, "cgroup.procs"), "utf8").split("\n").filter(Boolean);
    for (const pid of pids) writeFileSync(join(mountPoint, "cgroup.procs"), pid);
    rmdirSync(directory);
    await fails(exec(agent, id, ["true"]), "FAILED_PRECONDITION", /has lost its cgroup/);
  }
  const { stats } = await agent.client.call("ContainerStats", { container_id: id });
  assert.equal(stats?.attributes?.id, id);
  assert.equal(stats?.memory ?? null, null);
  const linux = { cpu_shares: long(77) };
  await fails(
    agent.client.call("UpdateContainerResources", { container_id: id, linux }),
    "FAILED_PRECONDITION",
    /cgroup .* is gone: somebody has removed it/,
  );
  await stop(id);
  await removePod(agent, pod);
  assert.ok(!hierarchies.some(({ mountPoint }) => existsSync(join(mountPoint, agent.cgroupRoot, id))));
});
