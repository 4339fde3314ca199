/** Exec over WebSocket, as kubectl does it: streams, terminals, sizes, half-close, exit codes, tokens. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftProcesses } from "../support/leaks.js";
import { openRemoteCommand, SpdyClient } from "../support/spdy-client.js";
import { WebSocketClient } from "../support/websocket-client.js";
import {
  createContainer,
  fails,
  importBusybox,
  type RunningPod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;
let id: string;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
  id = await runContainer(agent, pod, sh("while sleep 0.2; do :; done"));
});

after(() => agent.stop());

interface Wanted {
  tty?: boolean;
  stdin?: boolean;
  stdout?: boolean;
  stderr?: boolean;
}

async function urlOf(script: string | string[], wanted: Wanted = {}, container = id): Promise<string> {
  const cmd = typeof script === "string" ? ["sh", "-c", script] : script;
  const request = { container_id: container, cmd, stdout: true, stderr: !wanted.tty, ...wanted };
  return (await agent.client.call("Exec", request)).url;
}

async function open(script: string | string[], wanted: Wanted = {}, protocol = "v5.channel.k8s.io") {
  return WebSocketClient.open(await urlOf(script, wanted), protocol === "" ? [] : [protocol]);
}

function commandsOfPod(): string[] {
  return leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).map(({ what }) => what);
}

test("both outputs and success, in every subprotocol", async () => {
  for (const protocol of ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"]) {
    const client = await open("printf 'a\\000b'; printf error >&2", {}, protocol);
    assert.equal((await client.ended()).status, "Success");
    assert.equal(client.protocol, protocol);
    assert.deepEqual([client.text(1), client.text(2), client.closeCode], ["a\0b", "error", 1000]);
  }
});

test("the first protocols have no status but an error's text", async () => {
  for (const protocol of ["channel.k8s.io", "base64.channel.k8s.io", ""]) {
    const client = await open("printf out; exit 3", {}, protocol);
    await client.until("the end", () => client.closeCode !== 0);
    assert.deepEqual([client.text(1), client.protocol], ["out", protocol]);
    assert.match(client.text(3), /exit code: 3/);
  }
});

test("the exit code and the signal in the status", async () => {
  const status = await (await open("exit 42")).ended();
  assert.deepEqual(
    [status.status, status.reason, status.details?.causes],
    ["Failure", "NonZeroExitCode", [{ reason: "ExitCode", message: "42" }]],
  );
  const killed = await (await open("kill -KILL $$")).ended();
  assert.equal(killed.details?.causes?.[0]?.message, "137");
});

test("a program that is not there is an error that names it", async () => {
  const status = await (await open(["no-such-program"])).ended();
  assert.deepEqual([status.status, status.reason], ["Failure", "InternalError"]);
  assert.match(status.message ?? "", /no-such-program/);
});

test("standard input, and its end", async () => {
  const client = await open(["cat"], { stdin: true });
  client.send(0, "hello ");
  await client.until("the echo", () => client.text(1) === "hello ");
  client.send(0, "world");
  client.closeChannel(0);
  assert.equal((await client.ended()).status, "Success");
  assert.equal(client.text(1), "hello world");
});

test("without stdin it is empty, and what the client sends all the same goes nowhere", async () => {
  const client = await open("wc -c; sleep 0.1");
  client.send(0, "ignored");
  assert.equal((await client.ended()).status, "Success");
  assert.equal(client.text(1).trim(), "0");
});

test("ten megabytes there and back, byte for byte", async () => {
  const data = randomBytes(10 << 20);
  const client = await open(["cat"], { stdin: true });
  for (let at = 0; at < data.length; at += 100_000) {
    if (!client.send(0, data.subarray(at, at + 100_000)))
      await new Promise((resolve) => client.socket.once("drain", resolve));
  }
  client.closeChannel(0);
  assert.equal((await client.ended(30_000)).status, "Success");
  const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
  assert.equal(digest(client.bytes(1)), digest(data));
});

test("a terminal: its size, its changes, its owner, echo and control characters", async () => {
  const client = await open(["sh"], { tty: true, stdin: true });
  client.resize(123, 45);
  client.send(0, "stty size; test -t 0 && test -t 1 && test -t 2 && echo is-$((40+2))-tty; tty; echo $TERM\n");
  await client.until("the answers", () => /is-42-tty[\s\S]*\/dev\/pts\/\d+\r\n[\s\S]*xterm/.test(client.text(1)));
  assert.match(client.text(1), /\r\n45 123\r\n/);
  client.resize(80, 24);
  client.send(0, "stty size\n");
  await client.until("the new size", () => client.text(1).includes("\r\n24 80\r\n"));
  client.send(0, "sleep 600\n");
  await client.until("the command's echo", () => client.text(1).includes("sleep 600"));
  await sleep(100);
  client.send(0, "\x03exit 7\n");
  const status = await client.ended();
  assert.equal(status.details?.causes?.[0]?.message, "7");
  assert.equal(client.received.has(2), false);
});

test("output up to the last byte after the exit, also of a terminal", async () => {
  for (const tty of [false, true]) {
    for (let round = 0; round < 5; round++) {
      const client = await open("i=0; while [ $i -lt 2000 ]; do echo line-$i; i=$((i+1)); done", { tty });
      assert.equal((await client.ended()).status, "Success");
      const lines = client.text(1).split(/\r?\n/);
      assert.deepEqual([lines.length, lines[0], lines[1999]], [2001, "line-0", "line-1999"]);
    }
  }
});

test("a background child that keeps the pipes open does not hold the end back", async () => {
  const begun = performance.now();
  const client = await open("sleep 30 & echo done");
  assert.equal((await client.ended()).status, "Success");
  assert.equal(client.text(1), "done\n");
  assert.ok(performance.now() - begun < 20_000);
});

test("a slow reader slows the program, and costs the agent no memory", async () => {
  const client = await open("yes 0123456789abcdef | head -c 300000000; echo >&2 end");
  client.socket.pause();
  const memory = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${agent.pid}/status`, "utf8"))?.[1]);
  await sleep(300);
  const before = memory();
  await sleep(500);
  assert.ok(memory() - before < 8_000, "grows while the client does not read");
  client.destroy();
});

test("who goes away ends the session of a terminal, and a program that writes", async () => {
  const terminal = await open("sleep 601", { tty: true, stdin: true });
  const reading = await open(["sh", "-c", "cat; sleep 602"], { stdin: true });
  await untilRuns("sleep 601", true);
  terminal.destroy();
  reading.destroy();
  await untilRuns("sleep 601", false);
  await untilRuns("cat", false);
  await untilRuns("sleep 602", false);
});

test("who goes away ends what is stopped, too, with a terminal and without", async () => {
  for (const wanted of [{}, { tty: true, stdin: true }]) {
    const client = await open("kill -STOP $$; sleep 603", wanted);
    await untilRuns("sleep 603", true);
    await sleep(200);
    client.destroy();
    await untilRuns("sleep 603", false);
  }
});

test("who goes away before the program is executed has it ended all the same", async () => {
  for (let round = 0; round < 20; round++) {
    const url = await urlOf(["sleep", "650"]);
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    await once(socket, "connect");
    const key = randomBytes(16).toString("base64");
    const head = [
      "Upgrade: websocket",
      "Connection: Upgrade",
      "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${key}`,
    ];
    const all = [...head, "Sec-WebSocket-Protocol: v5.channel.k8s.io"].join("\r\n");
    socket.write(`GET ${new URL(url).pathname} HTTP/1.1\r\nHost: localhost\r\n${all}\r\n\r\n`);
    await once(socket, "data");
    socket.destroy();
  }
  // what was not told would run on
  await sleep(500);
  await untilRuns("sleep 650", false);
});

async function untilRuns(what: string, runs: boolean): Promise<void> {
  for (let tries = 0; commandsOfPod().some((command) => command.includes(what)) !== runs; tries++) {
    assert.ok(tries < 200, `${what} ${runs ? "does not run" : "still runs"}: ${commandsOfPod().join("; ")}`);
    await sleep(20);
  }
}

test("a token opens one stream, of its own call, once", async () => {
  const url = await urlOf("true");
  const refusal = (of: string) =>
    WebSocketClient.open(of).then(
      () => assert.fail("opened"),
      (error) => error.status,
    );
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/exec\/[A-Za-z0-9_-]{22}$/);
  assert.equal((await (await WebSocketClient.open(url)).ended()).status, "Success");
  assert.equal(await refusal(url), 404);
  const other = await urlOf("true");
  assert.equal(await refusal(other.replace("/exec/", "/attach/")), 404);
  assert.equal(await refusal(other), 404);
  assert.equal(await refusal(url.replace(/[^/]*$/, "A".repeat(22))), 404);
});

test("requests that make no sense are refused by name", async () => {
  const call = (more: object) => agent.client.call("Exec", { container_id: id, cmd: ["true"], ...more });
  await fails(call({}), "INVALID_ARGUMENT", /stdin, stdout and stderr/);
  await fails(call({ tty: true, stderr: true }), "INVALID_ARGUMENT", /stderr/);
  await fails(call({ stdout: true, cmd: [] }), "INVALID_ARGUMENT", /cmd/);
  await fails(call({ stdout: true, container_id: "f".repeat(64) }), "NOT_FOUND", /ffff/);
  const created = await createContainer(agent, pod);
  await fails(call({ stdout: true, container_id: created }), "FAILED_PRECONDITION", /created/);
});

test("an exec ends with its container, and the client is told", async () => {
  const dying = await runContainer(agent, pod);
  const client = await WebSocketClient.open(await urlOf("sleep 603", {}, dying));
  await untilRuns("sleep 603", true);
  await agent.client.call("StopContainer", { container_id: dying });
  assert.equal((await client.ended()).details?.causes?.[0]?.message, "137");
});

// ---- over SPDY, which the kubelet speaks when kubectl does not come through it ----

async function openSpdy(script: string | string[], wanted: Wanted = {}, protocols?: string[]) {
  const all = { stdout: true, stderr: !wanted.tty, ...wanted };
  return openRemoteCommand(await urlOf(script, wanted), all, protocols);
}

test("SPDY: both outputs, input and its end, and the status, in every version", async () => {
  for (const version of ["v4", "v3", "v2"]) {
    const exec = await openSpdy("cat; printf error >&2; exit 5", { stdin: true }, [`${version}.channel.k8s.io`]);
    assert.equal(exec.client.protocol, `${version}.channel.k8s.io`);
    exec.stdin?.write("hello ");
    await exec.client.until("the echo", () => exec.stdout?.text === "hello ");
    exec.stdin?.write("world", true);
    await exec.client.until("the end", () => exec.error.ended && exec.client.goneAway);
    assert.deepEqual([exec.stdout?.text, exec.stderr?.text], ["hello world", "error"]);
    assert.match(exec.error.text, version === "v4" ? /"reason":"ExitCode","message":"5"/ : /exit code: 5$/);
  }
});

test("SPDY: a terminal and its sizes", async () => {
  const exec = await openSpdy(["sh"], { tty: true, stdin: true });
  exec.resize?.write('{"Width":120,"Height":50}\n{"Width":77,');
  exec.resize?.write('"Height":33}\n');
  exec.stdin?.write("stty size\n");
  await exec.client.until("the size", () => exec.stdout?.text.includes("\r\n33 77\r\n") ?? false);
  exec.stdin?.write("exit\n");
  assert.equal((await exec.ended()).status, "Success");
});

test("SPDY: ten megabytes there and back, byte for byte", async () => {
  const data = randomBytes(10 << 20);
  const exec = await openSpdy(["cat"], { stdin: true });
  for (let at = 0; at < data.length; at += 50_000) {
    if (!exec.stdin?.write(data.subarray(at, at + 50_000))) await new Promise((resolve) => setImmediate(resolve));
  }
  exec.stdin?.end();
  assert.equal((await exec.ended(30_000)).status, "Success");
  assert.ok(Buffer.concat(exec.stdout?.parts ?? []).equals(data));
});

test("SPDY: what is sent before all streams are open is not lost", async () => {
  const client = await SpdyClient.open(await urlOf("cat", { stdin: true }));
  const stdin = await client.createStream({ streamtype: "stdin" });
  stdin.write("early", true);
  await client.createStream({ streamtype: "error" });
  await client.createStream({ streamtype: "stderr" });
  const stdout = await client.createStream({ streamtype: "stdout" });
  await client.until("the end", () => stdout.ended);
  assert.equal(stdout.text, "early");
});

test("SPDY: pings are answered; streams that nobody wants are refused, and who goes away ends the program", async () => {
  const exec = await openSpdy("sleep 604; true", { stdin: true });
  exec.client.ping(7);
  await exec.client.until("the ping", () => exec.client.pings.includes(7));
  assert.equal((await exec.client.createStream({ streamtype: "stdout" })).resetStatus, 3);
  assert.equal((await exec.client.createStream({ streamtype: "other" })).resetStatus, 3);
  await untilRuns("sleep 604", true);
  exec.client.destroy();
  await untilRuns("sleep 604", false);
});

test("SPDY: who says GOAWAY is gone, though its connection stays open and its streams are not reset", async () => {
  const exec = await openSpdy("sleep 606; true", { stdin: true });
  await untilRuns("sleep 606", true);
  exec.client.control(7, 0, Buffer.alloc(8));
  await untilRuns("sleep 606", false);
});

test("SPDY: a version that is not spoken is refused with those that are", async () => {
  await SpdyClient.open(await urlOf("true"), ["v9.channel.k8s.io"]).then(
    () => assert.fail("opened"),
    (error) => {
      assert.equal(error.status, 403);
      assert.match(error.body, /v4\.channel\.k8s\.io/);
    },
  );
});
