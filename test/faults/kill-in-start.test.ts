/**
 * The agent is killed while the start of a container is not done: its startContainer hook hangs, or the command of its OCI
 * runtime. To the next agent it is created until it has started, or could not.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { startAgent, type TestAgent } from "../support/agent.js";
import { until } from "../support/until.js";
import {
  ContainerState,
  containerStatus,
  createContainer,
  exec,
  fails,
  hostPidOf,
  importBusybox,
  long,
  monitorPidOf,
  NamespaceMode,
  type RunningPod,
  removePod,
  runPod,
} from "../support/workload.js";

const { CONTAINER_CREATED, CONTAINER_EXITED, CONTAINER_RUNNING } = ContainerState;
const runc = "/usr/sbin/runc";
const noRunc = !existsSync(runc) && "runc is not installed";

let agent: TestAgent;
/** in containers that are Berth's own it is /signs */
let signs: string;
let poststart: string;

/** It comes here, and goes on when it is told with which code. */
const waits = (at: string) => `touch ${at}/here; until [ -s ${at}/go ]; do sleep 0.02; done`;

before(async () => {
  const base = mkdtempSync(join(tmpdir(), "berth-start-"));
  signs = join(base, "signs");
  poststart = join(base, "poststart");
  for (const name of ["signs", "hooks.d"]) mkdirSync(join(base, name));
  const addHook = (stage: string, script: string) => {
    const hook = { path: "/bin/sh", args: ["sh", "-c", script], env: ["PATH=/bin:/usr/bin"] };
    const when = { annotations: { "^hooks$": "^yes$" } };
    const content = { version: "1.0.0", hook, when, stages: [stage] };
    writeFileSync(join(base, "hooks.d", `${stage}.json`), JSON.stringify(content));
  };
  addHook("startContainer", `${waits("/signs")}; echo refused >&2; exit $(cat /signs/go)`);
  addHook("poststart", `cat > ${poststart}`);
  const runtime = join(base, "runtime");
  const atStart = `case "$*" in *" start "*) ${waits(signs)}; [ $(cat ${signs}/go) = 0 ] || exit 1 ;; esac`;
  writeFileSync(runtime, `#!/bin/sh\n${atStart}\nexec ${runc} "$@"\n`, { mode: 0o755 });
  const config = join(base, "config.toml");
  writeFileSync(config, `[runtimes.waiting]\npath = "${runtime}"\n`);
  agent = await startAgent({ flags: { config, "hooks-dir": join(base, "hooks.d") } });
  await importBusybox(agent);
});

after(async () => {
  await agent.stop();
  rmSync(join(signs, ".."), { recursive: true });
});

/** A container whose start hangs, and the agent killed meanwhile; an agent runs again unless that is left for later. */
async function killedInStart(handler: string, pid: number, { restart = true } = {}) {
  for (const name of [poststart, join(signs, "here"), join(signs, "go")]) rmSync(name, { force: true });
  const options = { security_context: { namespace_options: { pid } } };
  const pod = await runPod(agent, { linux: options }, handler);
  const own = { annotations: { hooks: "yes" }, mounts: [{ container_path: "/signs", host_path: signs }] };
  const id = await createContainer(agent, pod, { ...(handler === "" && own), linux: options });
  const starting = agent.client.call("StartContainer", { container_id: id });
  starting.catch(() => undefined);
  await until(() => existsSync(join(signs, "here")));
  await agent.kill9();
  await starting.catch(() => undefined);
  if (restart) await agent.restart();
  return { pod, id };
}

const go = (code: number) => writeFileSync(join(signs, "go"), String(code));
const untilState = (id: string, state: number) => until(async () => (await containerStatus(agent, id)).state === state);

const kinds = [
  { name: "Berth's own launcher", handler: "", pid: NamespaceMode.CONTAINER, skip: false },
  { name: "Berth's own launcher, in the pod's PID namespace", handler: "", pid: NamespaceMode.POD, skip: false },
  { name: "an OCI runtime", handler: "waiting", pid: NamespaceMode.CONTAINER, skip: noRunc },
];

for (const { name, handler, pid, skip } of kinds) {
  describe(name, { skip }, () => {
    async function isCreated(id: string): Promise<void> {
      const { state, started_at } = await containerStatus(agent, id);
      assert.deepEqual([state, String(started_at)], [CONTAINER_CREATED, "0"]);
    }

    async function failedToStart(id: string, pod: RunningPod): Promise<void> {
      const { state, reason, exit_code, message, started_at } = await containerStatus(agent, id);
      assert.deepEqual([state, reason, exit_code], [CONTAINER_EXITED, "StartError", 128]);
      assert.equal(String(started_at), "0");
      const why = handler === "" ? /startContainer hook.*ended with code 7: refused/ : /runtime start/;
      assert.match(message ?? "", new RegExp(`container ${id} could not be started: .*${why.source}`));
      assert.ok(!existsSync(poststart));
      await removePod(agent, pod);
    }

    it("is created until it has started, and running then", async () => {
      const { pod, id } = await killedInStart(handler, pid);
      await isCreated(id);
      await fails(exec(agent, id, ["true"]), "FAILED_PRECONDITION", /./);
      const again = agent.client.call("StartContainer", { container_id: id });
      go(0);
      await fails(again, "FAILED_PRECONDITION", /is running; it cannot become running/);
      const { state, started_at } = await containerStatus(agent, id);
      assert.equal(state, CONTAINER_RUNNING);
      assert.ok(Number(started_at) > 0);
      if (handler === "") await until(() => existsSync(poststart));
      assert.ok((await hostPidOf(agent, id)) > 1);
      assert.equal((await exec(agent, id, ["true"])).exitCode, 0);
      // the next agent finds the same
      await agent.kill9();
      await agent.restart();
      assert.equal(String((await containerStatus(agent, id)).started_at), String(started_at));
      await removePod(agent, pod);
    });

    it("has not started when that fails", async () => {
      const { pod, id } = await killedInStart(handler, pid);
      await isCreated(id);
      go(7);
      await untilState(id, CONTAINER_EXITED);
      await failedToStart(id, pod);
    });

    it("has started, or not, before the next agent comes", async () => {
      for (const code of [0, 7]) {
        const { pod, id } = await killedInStart(handler, pid, { restart: false });
        go(code);
        const exits = join(agent.paths.run, "pods", pod.id, "exits");
        if (code === 7) await until(() => existsSync(join(exits, id)));
        await agent.restart();
        await untilState(id, code === 0 ? CONTAINER_RUNNING : CONTAINER_EXITED);
        if (code === 7) await failedToStart(id, pod);
        else await removePod(agent, pod);
      }
    });

    it("has not started, also when the monitor is gone before the next agent comes", async () => {
      const { pod, id } = await killedInStart(handler, pid);
      const monitor = await monitorPidOf(agent, pod.id);
      await agent.kill9();
      go(7);
      await until(() => existsSync(join(agent.paths.run, "pods", pod.id, "exits", id)));
      process.kill(monitor, "SIGKILL");
      await agent.restart();
      await failedToStart(id, pod);
    });

    it("is stopped while it is being started", async () => {
      const { pod, id } = await killedInStart(handler, pid);
      await agent.client.call("StopContainer", { container_id: id, timeout: long(0) });
      assert.equal((await containerStatus(agent, id)).state, CONTAINER_EXITED);
      assert.equal((await containerStatus(agent, id)).exit_code, 137);
      await removePod(agent, pod);
    });

    it("goes with its pod while it is being started", async () => {
      const { pod } = await killedInStart(handler, pid);
      await removePod(agent, pod);
      await agent.assertNothingLeft();
    });
  });
}
