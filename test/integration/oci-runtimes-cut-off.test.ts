/** What stops and ends of programs do to an OCI runtime that is amid a command. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { until } from "../support/until.js";
import {
  bundlesOf,
  ContainerState,
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  monitorPidOf,
  NamespaceMode,
  removePod,
  runContainer,
  runPod,
  runToEnd,
  sh,
} from "../support/workload.js";

const runc = "/usr/sbin/runc";
const noRunc = !existsSync(runc) && "runc is not installed";
const scratch = mkdtempSync(join(tmpdir(), "berth-oci-"));
let agent: TestAgent;

before(async () => {
  const runtimes = {
    // stays at the command that the file names, and then fails
    stuck: `case "$*" in *" $(cat ${scratch}/at) "*) touch ${scratch}/here; sleep 8; exit 1 ;; esac\nexec ${runc} "$@"`,
    // its start goes on for longer than the program
    late: `${runc} "$@"; code=$?\ncase "$*" in *" start "*) sleep 0.5 ;; esac\nexit $code`,
    // its delete goes on writing where it runs
    writing: `case "$*" in *" delete "*)
  touch ${scratch}/here
  end=$(( $(date +%s) + 2 ))
  while [ $(date +%s) -lt $end ]; do i=$(( i + 1 )); echo > ./written-$i; done
  touch ${scratch}/written ;;
esac
exec ${runc} "$@"`,
  };
  const tables = Object.entries(runtimes).map(([name, script]) => {
    const path = join(scratch, name);
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return `[runtimes.${name}]\npath = "${path}"\n`;
  });
  const config = join(scratch, "config.toml");
  writeFileSync(config, tables.join(""));
  agent = await startAgent({ flags: { config } });
  await importBusybox(agent);
});

after(async () => {
  await agent.stop();
  rmSync(scratch, { recursive: true });
});

const runPodOf = (handler: string) => runPod(agent, {}, handler);

test("a start that a stop cuts off says so, and the container was killed", { skip: noRunc }, async () => {
  writeFileSync(join(scratch, "at"), "start");
  for (const method of ["StopContainer", "StopPodSandbox"] as const) {
    const pod = await runPodOf("stuck");
    const id = await createContainer(agent, pod);
    const started = agent.client.call("StartContainer", { container_id: id });
    const refused = fails(started, "FAILED_PRECONDITION", /has ended before it was started: its init was killed/);
    await agent.client.call(method, { container_id: id, pod_sandbox_id: pod.id } as never);
    await refused;
    const { state, exit_code, reason, started_at } = await containerStatus(agent, id);
    assert.deepEqual([state, exit_code, reason], [ContainerState.CONTAINER_EXITED, 137, "Error"], method);
    assert.equal(String(started_at), "0");
    await removePod(agent, pod);
  }
});

test("an update and an exec that a stop cuts off say so", { skip: noRunc }, async () => {
  const pod = await runPodOf("stuck");
  const whileAt = async (command: string, call: (container_id: string) => Promise<unknown>) => {
    writeFileSync(join(scratch, "at"), "nothing");
    const id = await runContainer(agent, pod);
    writeFileSync(join(scratch, "at"), command);
    rmSync(join(scratch, "here"), { force: true });
    const answer = call(id);
    answer.catch(() => undefined);
    await until(() => existsSync(join(scratch, "here")));
    await agent.client.call("StopContainer", { container_id: id });
    return answer;
  };
  await fails(
    whileAt("update", (container_id) =>
      agent.client.call("UpdateContainerResources", { container_id, linux: { cpu_shares: long(100) } }),
    ),
    "FAILED_PRECONDITION",
    /the container is not running/,
  );
  // killed as its program would have been, or without a container to enter
  const exit = await whileAt("exec", (id) => exec(agent, id, ["true"], 0)).then(
    (done) => (done as { exitCode: number }).exitCode,
    (error: { details?: string }) => error.details ?? String(error),
  );
  assert.match(String(exit), /^137$|is not running/);
  await removePod(agent, pod);
});

test("a program that ends before its start has told so, in the pod's PID namespace, was started", {
  skip: noRunc,
}, async () => {
  const pod = await runPodOf("late");
  const { status } = await runToEnd(agent, pod, {
    ...sh("exit 3"),
    linux: { security_context: { namespace_options: { pid: NamespaceMode.POD } } },
  });
  assert.deepEqual([status.exit_code, status.reason], [3, "Error"]);
  await removePod(agent, pod);
});

for (const pid of [NamespaceMode.CONTAINER, NamespaceMode.NODE]) {
  const where = pid === NamespaceMode.NODE ? "the host's PID namespace" : "a PID namespace of its own";
  const newPod = async () => {
    for (const name of ["here", "written"]) rmSync(join(scratch, name), { force: true });
    const options = { namespace_options: { pid } };
    const pod = await runPod(agent, { linux: { security_context: options } }, "writing");
    const id = await createContainer(agent, pod, { linux: { security_context: options } });
    return { pod, id };
  };

  test(`a container in ${where} is removed after the stop of its pod has ended its runtime`, {
    skip: noRunc,
  }, async () => {
    const { pod, id } = await newPod();
    const stopped = agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
    await until(() => existsSync(join(scratch, "here")));
    await agent.client.call("RemoveContainer", { container_id: id });
    assert.ok(existsSync(join(scratch, "written")), "it was removed before its runtime had deleted it");
    assert.deepEqual(bundlesOf(agent, pod), []);
    await stopped;
    await removePod(agent, pod);
  });

  test(`a container in ${where} is removed when its monitor is killed while its runtime deletes it`, {
    skip: noRunc,
  }, async () => {
    const { pod, id } = await newPod();
    const removed = agent.client.call("RemoveContainer", { container_id: id });
    await until(() => existsSync(join(scratch, "here")));
    process.kill(await monitorPidOf(agent, pod.id), "SIGKILL");
    await removed;
    assert.deepEqual(bundlesOf(agent, pod), []);
    await removePod(agent, pod);
  });
}
