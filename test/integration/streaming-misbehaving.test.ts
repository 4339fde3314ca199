/** Clients and targets that do what no good one does: the agent's memory stays bounded, and every connection ends. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createDeflate } from "node:zlib";
import { DescriptorCarrier } from "../../agent/streaming/descriptor-carrier.js";
import { dictionary } from "../../agent/streaming/spdy/dictionary.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { SpdyClient, words } from "../support/spdy-client.js";
import { requestUpgrade } from "../support/websocket-client.js";
import { importBusybox, podConfig, type RunningPod, runContainer, runPod, sh } from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;
let id: string;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  // what the test itself listens on can be forwarded to
  const { linux } = podConfig(agent);
  pod = await runPod(agent, {
    linux: { ...linux, security_context: { namespace_options: { network: 2 } } },
  });
  id = await runContainer(agent, pod, sh("while sleep 0.2; do :; done"));
});

after(() => agent.stop());

function pssKiB(): number {
  return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${agent.pid}/smaps_rollup`, "utf8"))?.[1]);
}

/** Of SPDY: the session's first streams, opened in one go without waiting for an answer. */
async function streamsInOneGo(types: string[]): Promise<Buffer> {
  const deflate = createDeflate({ dictionary });
  const parts: Buffer[] = [];
  deflate.on("data", (part: Buffer) => parts.push(part));
  const frames: Buffer[] = [];
  for (const [index, type] of types.entries()) {
    deflate.write(Buffer.concat([words(1, 10), Buffer.from("streamtype"), words(type.length), Buffer.from(type)]));
    await new Promise<void>((resolve) => deflate.flush(() => resolve()));
    const content = Buffer.concat([words(2 * index + 1, 0), Buffer.alloc(2), ...parts.splice(0)]);
    frames.push(Buffer.concat([Buffer.from([0x80, 3, 0, 1]), words(content.length), content]));
  }
  return Buffer.concat(frames);
}

function dataFrame(id: number, bytes: number): Buffer {
  return Buffer.concat([words(id, bytes), Buffer.alloc(bytes)]);
}

test("input that comes together with the streams, for a program that reads none of it, waits with its client", async () => {
  const { url } = await agent.client.call("Exec", {
    container_id: id,
    cmd: ["sleep", "1000"],
    stdin: true,
    stdout: true,
  });
  const { socket } = await requestUpgrade(url, "POST", {
    Upgrade: "SPDY/3.1",
    "Content-Length": "0",
    "X-Stream-Protocol-Version": "v4.channel.k8s.io",
  });
  socket.on("error", () => undefined);
  socket.resume();
  const first = Buffer.concat([await streamsInOneGo(["error", "stdout", "stdin"]), dataFrame(5, 200_000)]);
  // so that one read brings all of it
  process.kill(agent.pid, "SIGSTOP");
  socket.write(first);
  await sleep(100);
  process.kill(agent.pid, "SIGCONT");
  const more = dataFrame(5, 256 * 1024);
  let sent = 0;
  const send = () => {
    do sent += more.length;
    while (sent < 1 << 30 && socket.write(more));
  };
  socket.on("drain", send);
  send();
  const atFirst = pssKiB();
  await sleep(1_500);
  socket.destroy();
  assert.ok(sent < 64 << 20, `${sent} bytes were taken`);
  assert.ok(pssKiB() < atFirst + 32 * 1024, `${atFirst} KiB became ${pssKiB()}`);
});

test("a target that resets its connections: the client gets what came before, and the end of each", async () => {
  const bytes = 100_000;
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    sockets.push(socket);
    socket.write(Buffer.alloc(bytes));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const port = String((server.address() as { port: number }).port);
  const { url } = await agent.client.call("PortForward", { pod_sandbox_id: pod.id });
  const client = await SpdyClient.open(url, ["portforward.k8s.io"]);
  const open = async (requestid: string) => {
    await client.createStream({ streamtype: "error", port, requestid }, true);
    return client.createStream({ streamtype: "data", port, requestid });
  };
  const streams = await Promise.all(Array.from({ length: 20 }, (_, index) => open(String(index))));
  const has = (count: number) => streams.every(({ parts }) => Buffer.concat(parts).length === count);
  await client.until("what came at first", () => has(bytes));
  // so that the agent finds both at once
  process.kill(agent.pid, "SIGSTOP");
  for (const socket of sockets) socket.write("the last words", () => socket.resetAndDestroy());
  await sleep(200);
  process.kill(agent.pid, "SIGCONT");
  await client.until("the ends", () => streams.every(({ ended }) => ended));
  assert.ok(has(bytes + "the last words".length));
  client.destroy();
  server.close();
});

test("a client that vanishes while something is under way to it is missed, one that has taken all is not", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const client = createConnection({ port, host: "127.0.0.1" });
  const [socket] = (await once(server, "connection")) as [Socket];
  server.close();
  const table = `berth-test-vanished-${port}`;
  const carrier = new DescriptorCarrier(socket, Buffer.alloc(0), { lookMs: 50, silenceMs: 500 });
  let closed = false;
  carrier.onClosed = () => {
    closed = true;
  };
  try {
    carrier.write(Buffer.alloc(100), 0, 100);
    await sleep(1_000);
    assert.deepEqual([carrier.allTaken, closed], [true, false]);
    const drop = `table inet ${table} { chain lost { type filter hook input priority 0; tcp sport ${port} drop; }; }`;
    execFileSync("nft", ["-f", "-"], { input: drop });
    await sleep(200);
    carrier.write(Buffer.alloc(100), 0, 100);
    assert.equal(carrier.allTaken, false);
    for (let tries = 0; !closed && tries < 100; tries++) await sleep(50);
    assert.ok(closed, "it is still waited for");
  } finally {
    carrier.destroy();
    client.destroy();
    spawnSync("nft", ["delete", "table", "inet", table]);
  }
});
