/**
 * A pod's monitor is killed, as the kernel's OOM killer may do it: whoever waits is answered, everything of the pod dies with
 * it, the pod is reported as not ready, and nothing is left once it is removed.
 */
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups, leftProcesses } from "../support/leaks.js";
import {
  ContainerState,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  NamespaceMode,
  PodSandboxState,
  podConfig,
  podStatus,
  type RunningPod,
  removePod,
  runContainer,
  sh,
  untilWritten,
  waitExited,
} from "../support/workload.js";

const runc = "/usr/sbin/runc";
let agent: TestAgent;

before(async () => {
  agent = await startAgent();
  writeFileSync(join(agent.paths.base, "config.toml"), `[runtimes.runc]\npath = "${runc}"\n`);
  await agent.restart();
  await importBusybox(agent);
});

after(() => agent.stop());

async function runPodOf(handler: string, pid: number): Promise<RunningPod> {
  const config = podConfig(agent, { linux: { security_context: { namespace_options: { pid } } } });
  const { pod_sandbox_id } = await agent.client.call("RunPodSandbox", { config, runtime_handler: handler });
  return { id: pod_sandbox_id, config };
}

const processes = () => leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot });

function killMonitor(pod: RunningPod): void {
  const monitor = processes().find(({ what }) => what.includes("berth-monitor") && what.includes(pod.id));
  assert.ok(monitor);
  process.kill(monitor.pid, "SIGKILL");
}

for (const handler of ["", "runc"]) {
  for (const mode of ["CONTAINER", "POD", "NODE"] as const) {
    const skip = handler === "" || existsSync(runc) ? false : `${runc} is not installed`;
    const pid = NamespaceMode[mode];
    const more = { linux: { security_context: { namespace_options: { pid } } } };

    describe(`${handler || "Berth's own launcher"}, PID namespace ${mode}`, { skip }, () => {
      test("who waits is answered, everything is dead, and the pod can be removed", async () => {
        const pod = await runPodOf(handler, pid);
        const id = await runContainer(agent, pod, {
          ...sh("trap '' TERM; setsid sleep 991 & echo ready; while :; do sleep 1; done"),
          ...more,
        });
        const created = await createContainer(agent, pod, more);
        await untilWritten(agent, id, "ready");
        const executing = exec(agent, id, ["sleep", "992"]).then(
          () => "done",
          (error: Error) => error.message,
        );
        const stopping = agent.client.call("StopContainer", { container_id: id, timeout: long(600) });
        for (let tries = 0; !processes().some(({ what }) => what.includes("sleep 992")); tries++) {
          assert.ok(tries < 1_000);
          await sleep(10);
        }
        killMonitor(pod);
        assert.match(await executing, /UNAVAILABLE.* has lost its monitor/);
        await stopping;
        const status = await waitExited(agent, id);
        assert.deepEqual([status.exit_code, status.reason], [137, "Error"]);
        assert.match(status.message ?? "", /monitor was lost/);
        assert.equal((await waitExited(agent, created)).exit_code, 137);
        assert.equal((await podStatus(agent, pod.id)).state, PodSandboxState.SANDBOX_NOTREADY);

        await fails(createContainer(agent, pod, more), "FAILED_PRECONDITION", /no container can be made/);
        await fails(exec(agent, id, ["true"]), "FAILED_PRECONDITION", /not running/);
        await fails(agent.client.call("StartContainer", { container_id: created }), "FAILED_PRECONDITION", /exited/);
        await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
        assert.deepEqual(processes(), []);
        assert.deepEqual(
          [id, created].flatMap((name) => leftCgroups(`${agent.cgroupRoot}/${name}`)),
          [],
        );
        await removePod(agent, pod);
        await agent.assertNothingLeft();
      });

      test("a container that is being made is not left behind", async () => {
        for (const laterMs of handler === "" ? [0, 2, 4, 6] : [4, 12, 24]) {
          const pod = await runPodOf(handler, pid);
          const making = createContainer(agent, pod, more).catch((error: Error) => error);
          await sleep(laterMs);
          killMonitor(pod);
          const made = await making;
          if (typeof made === "string") {
            assert.equal((await waitExited(agent, made)).state, ContainerState.CONTAINER_EXITED);
          }
          await removePod(agent, pod);
          await agent.assertNothingLeft();
        }
      });
    });
  }
}
