/** A container's program from its start to its end: signals, input, directory, home, the file for its last words. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Client, credentials } from "@grpc/grpc-js";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { linuxSignal } from "../../sandbox/spec/stop-signal.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftCgroups } from "../support/leaks.js";
import {
  ContainerState,
  containerStatus,
  createContainer,
  fails,
  importBusybox,
  long,
  out,
  type RunningPod,
  readLog,
  runContainer,
  runPod,
  runToEnd,
  Signal,
  sh,
  untilWritten,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

test("each of the CRI's signals is the one that the container gets when it is stopped", async () => {
  const names = Object.keys(Signal).filter((name) => name !== "SIGNAL_RUNTIME_DEFAULT");
  assert.equal(names.length, 65);
  // nobody can handle these two; SIGSTOP is followed by SIGKILL at the end of the grace period
  const handled = names.filter((name) => !["SIGNAL_SIGKILL", "SIGNAL_SIGSTOP"].includes(name));
  for (let at = 0; at < handled.length; at += 8) {
    await Promise.all(
      handled.slice(at, at + 8).map(async (name) => {
        const stop_signal = Signal[name as keyof typeof Signal];
        const script = `trap 'exit 40' ${linuxSignal(stop_signal)}; sleep 1000 & echo ready; while :; do wait; done`;
        const id = await runContainer(agent, pod, { ...sh(script), stop_signal });
        await untilWritten(agent, id, "ready");
        await agent.client.call("StopContainer", { container_id: id, timeout: long(20) });
        const status = await containerStatus(agent, id);
        assert.deepEqual([name, status.exit_code, status.stop_signal], [name, 40, stop_signal]);
        await agent.client.call("RemoveContainer", { container_id: id });
      }),
    );
  }
});

test("a program that cannot be started: StartError, 128, and a message that names it", async () => {
  const id = await createContainer(agent, pod, { command: ["/no/such/program"] });
  await fails(agent.client.call("StartContainer", { container_id: id }), "INVALID_ARGUMENT", /\/no\/such\/program/);
  const status = await containerStatus(agent, id);
  assert.deepEqual([status.exit_code, status.reason], [128, "StartError"]);
  assert.match(status.message ?? "", /\/no\/such\/program/);
});

test("a program of another architecture: the words that people look for", async () => {
  const image = { image: "berth.test/foreign:1" };
  await importBusybox(agent, image.image, {
    layers: [[{ path: "program", mode: 0o755, content: "\x7fELF of elsewhere" }]],
  });
  const id = await createContainer(agent, pod, { image, command: ["/program"] });
  const sentence = /execve "\/program": ENOEXEC \(exec format error/;
  await fails(agent.client.call("StartContainer", { container_id: id }), "INVALID_ARGUMENT", sentence);
});

test("the file for a container's last words is the kubelet's", async () => {
  const host_path = join(agent.paths.base, "termination-log");
  writeFileSync(host_path, "", { mode: 0o666 });
  const mounts = [{ host_path, container_path: "/dev/termination-log" }];
  const { status } = await runToEnd(agent, pod, { ...sh("echo farewell > /dev/termination-log; exit 1"), mounts });
  assert.deepEqual([status.exit_code, status.reason], [1, "Error"]);
  assert.equal(readFileSync(host_path, "utf8"), "farewell\n");
});

test("a working directory that is missing is made as the user's own", async () => {
  const security_context = { run_as_user: { value: long(1234) }, run_as_group: { value: long(99) } };
  const { output } = await runToEnd(agent, pod, {
    ...sh("pwd; stat -c '%u:%g' .; touch mine && echo $HOME"),
    working_dir: "/made/here",
    linux: { security_context },
  });
  assert.equal(output, "/made/here\n1234:99\n/\n");
});

test("a working directory can be made where nothing else can", async () => {
  const { output } = await runToEnd(agent, pod, {
    ...sh("pwd; touch mine"),
    working_dir: "/home/made/here",
    linux: { security_context: { masked_paths: [], readonly_paths: ["/home"] } },
  });
  assert.match(output, /^\/home\/made\/here\n.*Read-only/s);
});

test("standard input that was asked for stays open while nobody attaches, otherwise it is at its end", async () => {
  const script = sh("echo reading; read line; echo ended; sleep 1000");
  const open = [
    await runContainer(agent, pod, { ...script, stdin: true }),
    await runContainer(agent, pod, { ...script, stdin: true, stdin_once: true }),
  ];
  const closed = await runContainer(agent, pod, script);
  for (const input of ["/proc/1/fd/0", "/proc/self/fd/0"]) {
    assert.equal(await out(agent, closed, ["readlink", input]), "/dev/null", input);
  }
  await untilWritten(agent, closed, "ended");
  assert.equal(await out(agent, closed, "stat -L -c %F:%t:%T /proc/1/fd/0"), "character special file:1:3");
  for (const id of open) await untilWritten(agent, id, "reading");
  await agent.kill9();
  await agent.restart();
  for (const id of open) {
    assert.match(await out(agent, id, ["readlink", "/proc/1/fd/0"]), /^pipe:/);
    const { log_path } = await containerStatus(agent, id);
    assert.doesNotMatch(readFileSync(log_path ?? "", "utf8"), /ended/);
  }
});

test("a terminal is the program's own, without a size until somebody attaches, and all that it writes is one stream", async () => {
  const script = `
    for stream in 0 1 2; do test -t $stream && readlink /proc/self/fd/$stream; done
    tty; /size; echo $TERM; echo to-the-terminal > /dev/tty
    stat -c '%u %t:%T' /dev/console; cut -d' ' -f6 /proc/self/stat; echo error >&2`;
  const size = join(agent.paths.base, "size");
  const source =
    "#include <stdio.h>\n#include <sys/ioctl.h>\n" +
    'int main() { struct winsize s; ioctl(0, TIOCGWINSZ, &s); printf("%d %d\\n", s.ws_row, s.ws_col); }';
  writeFileSync(`${size}.c`, source);
  execFileSync("cc", ["-static", "-o", size, `${size}.c`]);
  const id = await runContainer(agent, pod, {
    ...sh(`${script}; read line`),
    tty: true,
    linux: { security_context: { run_as_user: { value: long(1000) } } },
    mounts: [{ host_path: size, container_path: "/size" }],
  });
  await untilWritten(agent, id, "error\r");
  const records = await readLog((await containerStatus(agent, id)).log_path ?? "");
  assert.deepEqual(
    records.map(({ stream, text }) => `${stream} ${text}`),
    [
      ...Array(3).fill("stdout /dev/pts/0\r"),
      "stdout /dev/pts/0\r",
      // as with the field's runtimes: the kubelet sends a size when it attaches
      "stdout 0 0\r",
      "stdout xterm\r",
      "stdout to-the-terminal\r",
      "stdout 1000 88:0\r",
      // the leader of its session
      "stdout 1\r",
      "stdout error\r",
    ],
  );
  // its input never ends by itself
  assert.equal((await containerStatus(agent, id)).state, ContainerState.CONTAINER_RUNNING);
});

test("memory.oom.group through the unified map, where the host has cgroup v2's controllers", async () => {
  const resources = { memory_limit_in_bytes: long(64 << 20), unified: { "memory.oom.group": "1" } };
  const creation = createContainer(agent, pod, { linux: { resources } });
  const isV2 = existsSync("/sys/fs/cgroup/cgroup.controllers");
  if (!isV2) return fails(creation, "INVALID_ARGUMENT", /unified\["memory\.oom\.group"\]: this host has no cgroup v2/);
  const [directory = ""] = leftCgroups(`${agent.cgroupRoot}/${await creation}`);
  assert.equal(readFileSync(join(directory, "memory.oom.group"), "utf8").trim(), "1");
});

test("a variable's value is bytes, as a Secret may hold them, for the program and for an exec, after a restart, too", async () => {
  const value = Buffer.from([0x61, 0xff, 0xc3, 0x28, 0xed, 0xa0, 0x80, 0x0a, 0xf0, 0x9f, 0x98, 0x80]);
  const envs = [{ key: "SECRET", value }];
  const script = 'printf %s "$SECRET" | od -An -tx1 -v | tr -d " \\n"';
  const id = await runContainer(agent, pod, { ...sh(`${script}; echo; sleep 1000`), envs });
  await untilWritten(agent, id, value.toString("hex"));
  assert.equal(await out(agent, id, script), value.toString("hex"));
  await agent.restart();
  assert.equal(await out(agent, id, script), value.toString("hex"));
});

test("text of a request that is no text is refused, before anything is looked at", async () => {
  const { ContainerStatusRequest } = runtime.v1;
  const bytes = Buffer.concat([Buffer.from([0x0a, 0x02]), Buffer.from([0xff, 0xfe])]);
  assert.throws(() => ContainerStatusRequest.decode(bytes));
  const connection = new Client(agent.socket, credentials.createInsecure());
  try {
    const call = new Promise((resolve, reject) => {
      connection.makeUnaryRequest(
        "/runtime.v1.RuntimeService/ContainerStatus",
        (request: Buffer) => request,
        (answer) => answer,
        bytes,
        (error, answer) => (error ? reject(error) : resolve(answer)),
      );
    });
    await fails(call, "INVALID_ARGUMENT", /^the request cannot be read: .*utf-?8/i);
    assert.match(agent.logs(), /"method":"ContainerStatus".*the request cannot be read/);
  } finally {
    connection.close();
  }
});

test("what the kubelet leaves to the shell stays as it is: $(NAME) is its own to expand", async () => {
  const { output } = await runToEnd(agent, pod, {
    command: ["echo", "$(GIVEN)", "$GIVEN"],
    envs: [{ key: "GIVEN", value: Buffer.from("$(OTHER)") }],
  });
  assert.equal(output, "$(GIVEN) $GIVEN\n");
});
