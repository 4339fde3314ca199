/** `berth exec`, `attach`, `port-forward` and `logs`, as people call them. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, renameSync } from "node:fs";
import { connect as connectTo, createServer } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startAgent, type TestAgent } from "../support/agent.js";
import { until } from "../support/until.js";
import {
  containerStatus,
  exec,
  importBusybox,
  NamespaceMode,
  type RunningPod,
  runContainer,
  runPod,
  runToEnd,
  sh,
} from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

let agent: TestAgent;
let pod: RunningPod;
let id: string;
const children: ChildProcess[] = [];

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
  id = await runContainer(agent, pod);
});

after(async () => {
  for (const child of children) child.kill("SIGKILL");
  await agent.stop();
});

interface Running {
  child: ChildProcess;
  stdout(): Buffer;
  stderr(): string;
  until(what: RegExp): Promise<void>;
  ended(): Promise<number | null>;
}

function start(...args: string[]): Running {
  return startProgram(process.execPath, [program, ...args]);
}

function startProgram(path: string, args: string[]): Running {
  const child = spawn(path, args, { env: { ...process.env, BERTH_SOCKET: agent.socket } });
  children.push(child);
  const parts: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (bytes: Buffer) => parts.push(bytes));
  child.stderr.on("data", (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  child.stdin.on("error", () => undefined);
  const closed = once(child, "close");
  const stdout = () => Buffer.concat(parts);
  return {
    child,
    stdout,
    stderr: () => stderr,
    async until(what) {
      for (let tries = 0; !what.test(stdout().toString()); tries++) {
        assert.ok(tries < 1000, `${what} did not come: ${stdout()} ${stderr}`);
        await sleep(20);
      }
    },
    async ended() {
      const late = sleep(60_000, undefined, { ref: false }).then(() =>
        assert.fail(`still runs: ${stdout()} ${stderr}`),
      );
      await Promise.race([closed, late]);
      return child.exitCode;
    },
  };
}

test("exec: both outputs, input to its end, and the exit code", async () => {
  const data = randomBytes(3 << 20);
  const running = start("exec", "-i", id, "sh", "-c", "cat; echo error >&2; exit 7");
  running.child.stdin?.end(data);
  assert.equal(await running.ended(), 7);
  assert.ok(running.stdout().equals(data));
  assert.equal(running.stderr(), "error\n");
  const missing = start("exec", id, "no-such-program");
  assert.equal(await missing.ended(), 125);
  assert.match(missing.stderr(), /^berth: .*no-such-program/);
  const nobody = start("exec", "f".repeat(64), "true");
  assert.equal(await nobody.ended(), 125);
  assert.match(nobody.stderr(), /^berth: .*ffff/);
});

test("exec: much that comes a little at a time, to outputs that are read late, and nothing of ours among it", async () => {
  const running = start(
    "exec",
    id,
    "sh",
    "-c",
    "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; echo $i >&2; done",
  );
  const { stdout, stderr } = running.child;
  stdout?.pause();
  stderr?.pause();
  await sleep(3_000);
  stdout?.resume();
  stderr?.resume();
  assert.equal(await running.ended(), 0);
  const lines = Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join("");
  assert.ok(running.stdout().toString() === lines);
  assert.equal(running.stderr().replace(/^\d+\n/gm, ""), "");
  assert.ok(running.stderr() === lines);
});

test("exec -it: a terminal, with keys and the size of ours", async () => {
  const command = `stty rows 42 cols 101; ${process.execPath} ${program} exec -it ${id} sh`;
  const shell = startProgram("script", ["-qec", command, "/dev/null"]);
  shell.child.stdin?.write("stty size; echo is-$((6*7))\r");
  await shell.until(/is-42/);
  assert.match(shell.stdout().toString(), /\r\n42 101\r\n/);
  // to the program, and not to the command
  shell.child.stdin?.write("echo start-$((1+1)); sleep 600\r");
  await shell.until(/start-2/);
  // one that comes before the program that it is for is the shell's
  for (let tries = 0; !/back-42/.test(shell.stdout().toString()); tries++) {
    assert.ok(tries < 100, "not interrupted");
    shell.child.stdin?.write("\x03echo back-$((40+2))\r");
    await sleep(200);
  }
  shell.child.stdin?.write("exit 5\r");
  assert.equal(await shell.ended(), 5);
});

test("attach: output from now on, and input", async () => {
  const echoing = await runContainer(agent, pod, {
    ...sh("while read -r line; do echo got-$line; done; echo over >&2"),
    stdin: true,
    stdin_once: true,
  });
  const attached = start("attach", "-i", echoing);
  attached.child.stdin?.write("one\n");
  await attached.until(/got-one\n/);
  attached.child.stdin?.end("two\n");
  assert.equal(await attached.ended(), 0);
  assert.deepEqual([attached.stdout().toString(), attached.stderr()], ["got-one\ngot-two\n", "over\n"]);
});

test("port-forward: there and back with half-closes, and refusals", async () => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const parts: Buffer[] = [];
    socket.on("data", (bytes: Buffer) => parts.push(bytes));
    socket.on("end", () => socket.end(Buffer.concat(parts)));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const host = await runPod(agent, {
    hostname: "",
    linux: { security_context: { namespace_options: { network: NamespaceMode.NODE } } },
  });
  const forward = start("port-forward", host.id, `:${port}`, ":1");
  await forward.until(/-> 1\n/);
  const locals = [
    ...forward
      .stdout()
      .toString()
      .matchAll(/Forwarding from 127\.0\.0\.1:(\d+) -> /g),
  ];
  const data = randomBytes(1 << 20);
  const ask = async (local: number): Promise<Buffer> => {
    const socket = connectTo({ port: local, host: "127.0.0.1", allowHalfOpen: true });
    const parts: Buffer[] = [];
    socket.on("data", (bytes: Buffer) => parts.push(bytes));
    socket.on("error", () => undefined);
    socket.end(data);
    await new Promise((resolve) => socket.once("close", resolve));
    return Buffer.concat(parts);
  };
  const answers = await Promise.all(Array.from({ length: 5 }, () => ask(Number(locals[0]?.[1]))));
  assert.ok(answers.every((answer) => answer.equals(data)));
  assert.equal((await ask(Number(locals[1]?.[1]))).length, 0);
  for (let tries = 0; forward.stderr() === "" && tries < 1000; tries++) await sleep(20);
  assert.match(forward.stderr(), /^berth: error forwarding port 1 to pod .*connection refused/);
  forward.child.kill();
  await forward.ended();
  server.close();
  const nobody = start("port-forward", "e".repeat(64), "80");
  assert.equal(await nobody.ended(), 4);
  assert.match(nobody.stderr(), /^berth: .*eeee/);
});

test("logs: all of it, the last lines, those since a time, and as JSON", async () => {
  const script = "seq 1 30000; echo error >&2; sleep 1.1; printf 'late'";
  const { id: ended } = await runToEnd(agent, pod, sh(script));
  const logs = async (...args: string[]) => {
    const printed = start("logs", ended, ...args);
    assert.equal(await printed.ended(), 0, printed.stderr());
    return { out: printed.stdout().toString(), err: printed.stderr() };
  };
  const all = await logs();
  assert.equal(all.err, "error\n");
  assert.equal(all.out, `${Array.from({ length: 30_000 }, (_, index) => index + 1).join("\n")}\nlate`);
  assert.deepEqual(await logs("--tail", "3"), { out: "30000\nlate", err: "error\n" });
  assert.deepEqual(await logs("--tail", "0"), { out: "", err: "" });
  const records = (await logs("--json")).out.trim().split("\n");
  const late = JSON.parse(records.at(-1) ?? "") as { time: string };
  assert.deepEqual(await logs("--since", late.time.replace(/\.\d+/, "")), { out: "late", err: "" });
  assert.equal((await logs("--since", "1d")).out, all.out);
});

test("logs -f follows rotation, and an agent that comes and goes, until the container has ended", async () => {
  const script = "i=0; while [ ! -e /tmp/stop ]; do echo line-$i; i=$((i+1)); [ $((i%100)) = 0 ] && sleep 0.1; done";
  const writing = await runContainer(agent, pod, sh(script));
  const path = (await containerStatus(agent, writing)).log_path ?? "";
  const follower = start("logs", "-f", writing);
  await follower.until(/line-10\n/);
  await agent.kill9();
  await agent.restart();
  for (let round = 0; round < 5; round++) {
    renameSync(path, `${path}.${round}`);
    await agent.client.call("ReopenContainerLog", { container_id: writing });
    // who follows may be behind, but not by more than a file: that one would have lost its name
    await until(() => readFileSync(path, "utf8").includes("\n"));
    const [, first] = /F (line-\d+)\n/.exec(readFileSync(path, "utf8")) ?? [];
    await follower.until(new RegExp(`${first}\n`));
  }
  await exec(agent, writing, "touch /tmp/stop");
  assert.equal(await follower.ended(), 0, follower.stderr());
  const lines = follower.stdout().toString().trimEnd().split("\n");
  assert.deepEqual(
    lines,
    Array.from(lines, (_, index) => `line-${index}`),
  );
});
