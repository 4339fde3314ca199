/** Attach over both protocols: many at once, before and after the start, terminals, stdin_once, and after a new agent. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { openRemoteCommand } from "../support/spdy-client.js";
import { WebSocketClient } from "../support/websocket-client.js";
import {
  createContainer,
  fails,
  importBusybox,
  type RunningPod,
  readLog,
  removePod,
  runContainer,
  runPod,
  sh,
  waitExited,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
});

after(() => agent.stop());

interface Wanted {
  tty?: boolean;
  stdin?: boolean;
  stdout?: boolean;
  stderr?: boolean;
}

async function urlOf(id: string, wanted: Wanted = {}): Promise<string> {
  const request = { container_id: id, stdout: true, stderr: !wanted.tty, ...wanted };
  return (await agent.client.call("Attach", request)).url;
}

async function open(id: string, wanted: Wanted = {}) {
  return WebSocketClient.open(await urlOf(id, wanted));
}

const echoing = 'while read -r line; do echo "got $line"; echo "err $line" >&2; done; echo over';

test("before the start and after it: all see the same from then on, and the log has it all", async () => {
  const id = await createContainer(agent, pod, { ...sh(echoing), stdin: true });
  const early = await open(id, { stdin: true });
  await agent.client.call("StartContainer", { container_id: id });
  early.send(0, "one\n");
  await early.until("the first line", () => early.text(1) === "got one\n");
  const late = await Promise.all(Array.from({ length: 10 }, () => open(id)));
  // from here on they get what comes
  for (const client of late) await client.until("the greeting", () => client.greeted);
  early.send(0, "two\n");
  for (const client of late) await client.until("the second line", () => client.text(1) === "got two\n");
  for (const client of late) await client.until("its error", () => client.text(2) === "err two\n");
  for (const client of late.slice(0, 5)) client.destroy();
  early.send(0, "three\n");
  for (const client of late.slice(5)) await client.until("the third line", () => client.text(1).endsWith("three\n"));
  await agent.client.call("StopContainer", { container_id: id });
  for (const client of [early, ...late.slice(5)]) assert.equal((await client.ended()).status, "Success");
  const records = await readLog((await waitExited(agent, id)).log_path ?? "");
  const texts = records.filter(({ stream }) => stream === "stdout").map(({ text }) => text);
  assert.deepEqual(texts, ["got one", "got two", "got three"]);
});

test("output up to the last byte after the exit, over both protocols", async () => {
  const script =
    "until read -r go && [ $go = go ]; do echo probe; done; i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done";
  const id = await runContainer(agent, pod, { ...sh(script), stdin: true });
  const websocket = await open(id, { stdin: true });
  const spdy = await openRemoteCommand(await urlOf(id), { stdout: true, stderr: true });
  // there is nothing by which a client of SPDY could see that it is attached
  for (; !spdy.stdout?.text.includes("probe"); await sleep(20)) websocket.send(0, "probe\n");
  websocket.send(0, "go\n");
  assert.equal((await websocket.ended(30_000)).status, "Success");
  assert.equal((await spdy.ended(30_000)).status, "Success");
  for (const all of [websocket.text(1), spdy.stdout?.text ?? ""]) {
    const text = all.replaceAll("probe\n", "");
    assert.deepEqual([text.split("\n").length, text.slice(-11)], [20_001, "line-19999\n"]);
  }
});

test("stdin_once: the end of the first one's input is the program's, and nobody else gets to give any", async () => {
  const once = { command: ["cat"], stdin: true, stdin_once: true };
  const id = await runContainer(agent, pod, once);
  const client = await open(id, { stdin: true });
  client.send(0, "all there is");
  client.closeChannel(0);
  assert.equal((await client.ended()).status, "Success");
  assert.equal(client.text(1), "all there is");
  assert.equal((await waitExited(agent, id)).exit_code, 0);

  // one who goes away without a word has ended it, too
  const other = await runContainer(agent, pod, { ...once, ...sh("cat; exit 3") });
  const leaving = await openRemoteCommand(await urlOf(other, { stdin: true }), {
    stdin: true,
    stdout: true,
    stderr: true,
  });
  leaving.stdin?.write("words");
  await leaving.client.until("the words", () => leaving.stdout?.text === "words");
  leaving.client.destroy();
  assert.equal((await waitExited(agent, other)).exit_code, 3);
});

test("standard output that ends early is ended for the client, too; errors and input go on", async () => {
  const script = 'echo first; exec 1>&-; while read -r line; do echo "err $line" >&2; done; exit 4';
  const id = await createContainer(agent, pod, { ...sh(script), stdin: true });
  const wanted = { stdin: true, stdout: true, stderr: true };
  const early = await openRemoteCommand(await urlOf(id, wanted), wanted);
  const websocket = await open(id, wanted);
  await websocket.until("the greeting", () => websocket.greeted);
  await agent.client.call("StartContainer", { container_id: id });
  await early.client.until("the end of its output", () => early.stdout?.ended === true);
  assert.equal(early.stdout?.text, "first\n");

  const late = await openRemoteCommand(await urlOf(id, wanted), wanted);
  await late.client.until("the end of its output", () => late.stdout?.ended === true);
  const only = await openRemoteCommand(await urlOf(id, { stderr: false }), { stdout: true });
  assert.deepEqual(await only.ended(), { metadata: {}, status: "Success" });

  late.stdin?.write("one\n");
  for (const { client, stderr } of [early, late]) {
    await client.until("the error", () => stderr?.text === "err one\n");
  }
  await websocket.until("the error", () => websocket.text(2) === "err one\n");
  early.client.destroy();
  websocket.send(0, "two\n");
  await late.client.until("the next error", () => late.stderr?.text === "err one\nerr two\n");
  await agent.client.call("StopContainer", { container_id: id });
  assert.deepEqual(await late.ended(), { metadata: {}, status: "Success" });
  assert.equal((await websocket.ended()).status, "Success");
  assert.equal(websocket.text(1), "first\n");

  const once = await runContainer(agent, pod, { ...sh("exec 1>&-; cat >&2; exit 5"), stdin: true, stdin_once: true });
  const client = await openRemoteCommand(await urlOf(once, wanted), wanted);
  await client.client.until("the end of its output", () => client.stdout?.ended === true);
  client.stdin?.write("all there is", true);
  assert.deepEqual(await client.ended(), { metadata: {}, status: "Success" });
  assert.equal(client.stderr?.text, "all there is");
  assert.equal((await waitExited(agent, once)).exit_code, 5);
});

test("without stdin_once the end of the input is the end of the visit alone", async () => {
  const id = await runContainer(agent, pod, { ...sh(echoing), stdin: true });
  const first = await open(id, { stdin: true });
  first.send(0, "one\n");
  await first.until("the line", () => first.text(1) === "got one\n");
  first.closeChannel(0);
  assert.equal((await first.ended()).status, "Success");
  const second = await open(id, { stdin: true });
  second.send(0, "two\n");
  await second.until("the line", () => second.text(1) === "got two\n");
  second.destroy();
  await agent.client.call("StopContainer", { container_id: id });
});

test("a terminal: input, sizes, and its one output; without tty in the request, too", async () => {
  const id = await runContainer(agent, pod, { command: ["sh"], stdin: true, tty: true });
  const client = await open(id, { tty: true, stdin: true });
  client.resize(111, 33);
  client.send(0, "stty size; tty; echo err-$((6*7)) >&2\n");
  await client.until("the size", () => /\r\n33 111\r\n[\s\S]*err-42/.test(client.text(1)));
  const spdy = await openRemoteCommand(await urlOf(id, { tty: true, stdin: true }), {
    tty: true,
    stdin: true,
    stdout: true,
  });
  spdy.resize?.write('{"Width":90,"Height":40}');
  const plain = await open(id, { stderr: true });
  await plain.until("the greeting", () => plain.greeted);
  spdy.stdin?.write("stty size; exit 9\n");
  for (const { text } of [{ text: () => client.text(1) }, { text: () => plain.text(1) }])
    await client.until("the new size", () => text().includes("\r\n40 90\r\n"));
  assert.equal((await client.ended()).status, "Success");
  assert.equal((await spdy.ended()).status, "Success");
  assert.equal((await waitExited(agent, id)).exit_code, 9);
});

test("who does not read holds the container up for ten seconds at most, and is told; the others and the log miss nothing", async () => {
  // more than all sockets on the way have room for
  const lines = 3_000_000;
  const size = 22_888_896;
  const id = await runContainer(agent, pod, { ...sh(`read -r go; seq 1 ${lines}; echo done`), stdin: true });
  const reading = await open(id, { stdin: true });
  const deaf = await open(id);
  await deaf.until("the greeting", () => deaf.greeted);
  deaf.socket.pause();
  const begun = Date.now();
  reading.send(0, "go\n");
  assert.equal((await reading.ended(40_000)).status, "Success");
  assert.ok(Date.now() - begun >= 9_000);
  assert.equal(reading.bytes(1).subarray(-13).toString(), "3000000\ndone\n");
  assert.equal(reading.bytes(1).length, size + 5);
  const log = readFileSync((await waitExited(agent, id)).log_path ?? "", "latin1");
  assert.equal(log.trimEnd().split("\n").length, lines + 1);
  deaf.socket.resume();
  const { status, message } = await deaf.ended();
  assert.equal(status, "Failure");
  assert.match(message ?? "", /cut off before the end of the output/);
  assert.ok(deaf.bytes(1).length < size);
});

test("who writes at once gets the answer, however many come and go", async () => {
  const id = await runContainer(agent, pod, { ...sh('while read -r line; do echo "$line"; done'), stdin: true });
  const wanted = { stdin: true, stdout: true };
  const visitor = async (name: number) => {
    for (let round = 0; round < 40; round++) {
      const line = `${name}-${round}\n`;
      const { client, stdin, stdout } = await openRemoteCommand(await urlOf(id, { ...wanted, stderr: false }), wanted);
      stdin?.write(line);
      await client.until(`the answer to ${line}`, () => stdout?.text.includes(line) === true);
      client.destroy();
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, name) => visitor(name)));
});

test("a new agent attaches to what an older one has started; input that it had open is not the program's end", async () => {
  const id = await runContainer(agent, pod, { ...sh(echoing), stdin: true });
  const first = await open(id, { stdin: true });
  first.send(0, "one\n");
  await first.until("the line", () => first.text(1) === "got one\n");
  await agent.kill9();
  await agent.restart();
  const second = await open(id, { stdin: true });
  second.send(0, "two\n");
  await second.until("the line", () => second.text(1) === "got two\n");
  await agent.client.call("StopContainer", { container_id: id });
  assert.equal((await second.ended()).status, "Success");
});

test("megabytes of input arrive whole", async () => {
  const id = await runContainer(agent, pod, { ...sh("sha256sum"), stdin: true, stdin_once: true });
  const data = Buffer.alloc(5 << 20, "0123456789abcdef-");
  const client = await openRemoteCommand(await urlOf(id, { stdin: true }), { stdin: true, stdout: true, stderr: true });
  for (let at = 0; at < data.length; at += 100_000) client.stdin?.write(data.subarray(at, at + 100_000));
  client.stdin?.end();
  assert.equal((await client.ended(30_000)).status, "Success");
  assert.equal(client.stdout?.text.split(" ")[0], createHash("sha256").update(data).digest("hex"));
});

test("requests that make no sense are refused by name", async () => {
  const call = (more: object) => agent.client.call("Attach", { stdout: true, ...more });
  await fails(call({}), "INVALID_ARGUMENT", /container_id/);
  await fails(call({ container_id: "e".repeat(64) }), "NOT_FOUND", /eeee/);
  const other = await runPod(agent);
  const id = await runContainer(agent, other, sh("exit 0"));
  await fails(call({ container_id: id, stdout: false }), "INVALID_ARGUMENT", /stdin, stdout and stderr/);
  const url = await urlOf(await runContainer(agent, other));
  await waitExited(agent, id);
  await fails(call({ container_id: id }), "FAILED_PRECONDITION", /exited/);
  await removePod(agent, other);
  // it has ended between the call and the client's coming
  const status = await (await WebSocketClient.open(url)).ended();
  assert.deepEqual([status.status, status.reason], ["Failure", "InternalError"]);
});
