/** PortForward over SPDY, SPDY in a WebSocket, and WebSocket channels: into the pod's own network, half-closes, refusals. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { createServer } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type ClientStream, openTunnel, SpdyClient } from "../support/spdy-client.js";
import { WebSocketClient } from "../support/websocket-client.js";
import {
  fails,
  importBusybox,
  NamespaceMode,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const echoPort = 7000;
const countPort = 7001;
const v6Port = 7002;
const nobodysPort = 7003;

let agent: TestAgent;
let pod: RunningPod;
let echo: ChildProcess;

const echoServer = `require("node:net").createServer({ allowHalfOpen: true }, (socket) => {
  socket.on("error", () => socket.destroy());
  socket.pipe(socket);
}).listen({ port: ${echoPort}, host: "127.0.0.1", backlog: 1024 })`;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
  // beside the container, in the pod's network: busybox has no server that takes many at once
  const namespace = `--net=${agent.paths.netns}/berth-${pod.id}`;
  echo = spawn("nsenter", [namespace, process.execPath, "-e", echoServer], { stdio: "ignore" });
  const servers = [
    // answers only once its client has said that nothing more comes
    `nc -ll -p ${countPort} -e sh -c 'echo "$(wc -c) bytes"'`,
    `httpd -f -p "[::1]:${v6Port}" -h /etc`,
  ];
  await runContainer(agent, pod, sh(`${servers.join(" & ")} & wait`));
  const spdy = await openSpdy();
  for (const port of [echoPort, countPort, v6Port]) await untilListens(spdy, port);
  spdy.destroy();
});

after(async () => {
  echo.kill();
  await agent.stop();
});

async function urlOf(ports: number[] = [], id = pod.id): Promise<string> {
  return (await agent.client.call("PortForward", { pod_sandbox_id: id, port: ports })).url;
}

const openSpdy = async (id?: string) => SpdyClient.open(await urlOf([], id), ["portforward.k8s.io"]);

interface Connection {
  data: ClientStream;
  error: ClientStream;
}

let lastRequest = 0;

async function connect(client: SpdyClient, port: number): Promise<Connection> {
  const headers = { port: String(port), requestid: String(lastRequest++) };
  const error = await client.createStream({ ...headers, streamtype: "error" });
  error.end();
  return { error, data: await client.createStream({ ...headers, streamtype: "data" }) };
}

async function untilListens(client: SpdyClient, port: number): Promise<void> {
  for (let tries = 0; ; tries++) {
    const { data, error } = await connect(client, port);
    data.end();
    await client.until("an end", () => data.ended && error.ended);
    if (error.text === "") return;
    assert.ok(tries < 500, error.text);
    await sleep(20);
  }
}

test("there and back, in SPDY and in SPDY within a WebSocket", async () => {
  for (const client of [await openSpdy(), await openTunnel(await urlOf())]) {
    const { data, error } = await connect(client, echoPort);
    data.write("hello ");
    await client.until("the echo", () => data.text === "hello ");
    data.write("world", true);
    await client.until("the end", () => data.ended && error.ended);
    assert.deepEqual([data.text, error.text], ["hello world", ""]);
    client.destroy();
  }
});

test("a half-close passes: who listens sees the end of the input, and still answers", async () => {
  const client = await openSpdy();
  const { data } = await connect(client, countPort);
  data.write(Buffer.alloc(100_000));
  data.end();
  await client.until("the answer", () => data.ended);
  assert.equal(data.text, "100000 bytes\n");
  client.destroy();
});

test("who listens on ::1 alone is found", async () => {
  const client = await openSpdy();
  const { data } = await connect(client, v6Port);
  data.write("GET /passwd HTTP/1.0\r\n\r\n");
  await client.until("the answer", () => data.ended);
  assert.match(data.text, /^HTTP\/1.. 200 OK[\s\S]*root:/);
  client.destroy();
});

test("a refused connection is told on the error stream, and the others go on", async () => {
  const client = await openSpdy();
  const good = await connect(client, echoPort);
  const bad = await connect(client, nobodysPort);
  await client.until("the refusal", () => bad.error.ended && bad.data.ended);
  assert.match(
    bad.error.text,
    new RegExp(
      `^error forwarding port ${nobodysPort} to pod ${pod.id}, uid ${pod.config.metadata?.uid}: .*connection refused$`,
    ),
  );
  good.data.write("still here", true);
  await client.until("the echo", () => good.data.ended);
  assert.equal(good.data.text, "still here");
  client.destroy();
});

test("many connections at once, and megabytes byte for byte", async () => {
  const client = await openSpdy();
  const connections = await Promise.all(Array.from({ length: 200 }, () => connect(client, echoPort)));
  for (const [index, { data }] of connections.entries()) data.write(`connection ${index}`, true);
  await client.until("all ends", () => connections.every(({ data }) => data.ended), 30_000);
  for (const [index, { data }] of connections.entries()) assert.equal(data.text, `connection ${index}`);
  const { data } = await connect(client, echoPort);
  const bytes = randomBytes(10 << 20);
  for (let at = 0; at < bytes.length; at += 50_000) {
    if (!data.write(bytes.subarray(at, at + 50_000))) await new Promise((resolve) => setImmediate(resolve));
  }
  data.end();
  await client.until("the end", () => data.ended, 30_000);
  assert.ok(Buffer.concat(data.parts).equals(bytes));
  client.destroy();
});

test("WebSocket channels, binary and base64: the ports' numbers first, data and errors", async () => {
  for (const protocol of ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"]) {
    const client = await WebSocketClient.open(await urlOf([echoPort, nobodysPort]), [protocol]);
    await client.until("the refusal", () => client.bytes(3).length > 2);
    for (const [channel, port] of [echoPort, echoPort, nobodysPort].entries())
      assert.equal(client.bytes(channel).readUInt16LE(0), port);
    assert.match(client.bytes(3).subarray(2).toString(), /connection refused$/);
    client.send(0, "hello");
    await client.until("the echo", () => client.text(0).endsWith("hello"));
    client.destroy();
  }
  const closing = await WebSocketClient.open(await urlOf([v6Port]), ["v4.channel.k8s.io"]);
  closing.send(0, "GET /passwd HTTP/1.0\r\n\r\n");
  await closing.until("the end", () => closing.closeCode !== 0);
  assert.deepEqual([closing.closeCode, /root:/.test(closing.text(0))], [1000, true]);
  const none = await WebSocketClient.open(await urlOf(), ["v4.channel.k8s.io"]);
  await none.until("the refusal", () => none.closeCode !== 0);
  assert.equal(none.closeCode, 1002);
});

test("the host's network of a pod that has it, and not of another", async () => {
  const server = createServer((socket) => socket.end("the host")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const host = await runPod(agent, {
    hostname: "",
    linux: { security_context: { namespace_options: { network: NamespaceMode.NODE } } },
  });
  const client = await openSpdy(host.id);
  const { data } = await connect(client, port);
  await client.until("the end", () => data.ended);
  assert.equal(data.text, "the host");
  client.destroy();
  const other = await openSpdy();
  const { error } = await connect(other, port);
  await other.until("the refusal", () => error.ended);
  assert.match(error.text, /connection refused/);
  other.destroy();
  server.close();
  await removePod(agent, host);
});

test("streams that make no sense are refused; connections end with their streams and their client", async () => {
  const client = await openSpdy();
  const refused = async (headers: Record<string, string>) => (await client.createStream(headers)).resetStatus;
  assert.equal(await refused({ streamtype: "data", requestid: "x" }), 3);
  assert.equal(await refused({ streamtype: "data", port: "0", requestid: "x" }), 3);
  assert.equal(await refused({ streamtype: "data", port: "65536", requestid: "x" }), 3);
  assert.equal(await refused({ streamtype: "other", port: "80", requestid: "x" }), 3);
  const { data } = await connect(client, echoPort);
  data.write("x");
  await client.until("the echo", () => data.text === "x");
  const before = descriptors();
  data.reset();
  await untilDescriptors(before - 1);
  const many = await Promise.all(Array.from({ length: 50 }, () => connect(client, echoPort)));
  for (const { data } of many) data.write("x");
  await client.until("the echoes", () => many.every(({ data }) => data.text === "x"));
  client.destroy();
  await untilDescriptors(before - 2);
});

function descriptors(): number {
  return readdirSync(`/proc/${agent.pid}/fd`).length;
}

async function untilDescriptors(count: number): Promise<void> {
  for (let tries = 0; descriptors() > count; tries++) {
    assert.ok(tries < 500, `there are ${descriptors()} descriptors, not ${count}`);
    await sleep(20);
  }
}

test("requests that make no sense are refused by name", async () => {
  const call = (more: object) => agent.client.call("PortForward", more);
  await fails(call({}), "INVALID_ARGUMENT", /pod_sandbox_id/);
  await fails(call({ pod_sandbox_id: "d".repeat(64) }), "NOT_FOUND", /dddd/);
  await fails(call({ pod_sandbox_id: pod.id, port: [70_000] }), "INVALID_ARGUMENT", /port: 70000/);
  const stopped = await runPod(agent);
  const url = await urlOf([], stopped.id);
  await agent.client.call("StopPodSandbox", { pod_sandbox_id: stopped.id });
  await fails(call({ pod_sandbox_id: stopped.id }), "FAILED_PRECONDITION", /stopped/);
  // it was stopped between the call and the client's coming
  const client = await SpdyClient.open(url, ["portforward.k8s.io"]);
  const { error } = await connect(client, echoPort);
  await client.until("the refusal", () => error.ended);
  assert.match(error.text, /not ready/);
  client.destroy();
});
