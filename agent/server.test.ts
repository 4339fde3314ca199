import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pino from "pino";
import { callTable } from "./call-table.js";
import { connect } from "./cli/client.js";
import { RecentCalls } from "./recent-calls.js";
import type { Runtime } from "./runtime.js";
import { type CriServer, serve } from "./server.js";
import { callsOfConnection } from "./unfinished-requests.js";
import { unsentLimits } from "./unsent-answers.js";

const MiB = 1024 * 1024;
const patienceMs = 200;
const scratch = mkdtempSync(join(tmpdir(), "berth-server-"));
const path = join(scratch, "s");
let server: CriServer;

before(async () => {
  const silent = pino({ level: "silent" });
  const log = Object.assign(silent, { areas: { calls: silent, steps: silent, events: silent } });
  const around = { log, recentCalls: new RecentCalls(), observeCall: () => undefined };
  const socket = { path, passed: null };
  const limits = { inAll: 2 * MiB };
  server = await serve(socket, {} as Runtime, callTable, around, () => true, patienceMs, unsentLimits, limits);
});

after(async () => {
  await server.close();
  rmSync(scratch, { recursive: true });
});

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
const brokenBy: Record<string, readonly Buffer[]> = {
  "no HTTP at all": [Buffer.alloc(60, 0xab)],
  "half of a preface": [preface.subarray(0, 10)],
  "frames of no type": [preface, settings, Buffer.alloc(60, 0xab)],
  "data of a stream that is not open": [preface, settings, Buffer.from([0, 0, 1, 0, 0, 0, 0, 0, 1, 65])],
  "a frame that is too long": [preface, settings, Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])],
};

/** Sends it, and goes a moment later. */
function client(sent: readonly Buffer[], reads: boolean): Promise<void> {
  return new Promise((resolve) => {
    const socket = createConnection(path, () => socket.write(Buffer.concat(sent)));
    if (reads) socket.resume();
    socket.on("error", () => undefined);
    socket.on("close", () => resolve());
    setTimeout(() => socket.destroy(), 20);
  });
}

const descriptors = () => readdirSync("/proc/self/fd").length;

for (const [what, sent] of Object.entries(brokenBy)) {
  test(`a client that sends ${what} keeps no descriptor`, async () => {
    const atFirst = descriptors();
    await Promise.all(Array.from({ length: 20 }, (_, index) => client(sent, index % 2 === 0)));
    for (const until = Date.now() + 20 * patienceMs; descriptors() > atFirst && Date.now() < until; await sleep(20));
    assert.ok(descriptors() <= atFirst, `${descriptors()} descriptors, ${atFirst} before`);
  });
}

test("a client that answers keeps its connection for as long as it likes", async () => {
  const asking = connect(path);
  await asking.call("Version", {});
  const open = descriptors();
  await sleep(4 * patienceMs);
  assert.equal(descriptors(), open);
  await asking.call("Version", {});
  assert.equal(descriptors(), open);
  asking.close();
});

/** Begins calls, each with so many bytes of a request that has one more. */
async function beginRequests(calls: number, bytes: number): Promise<ClientHttp2Session> {
  const session = connectHttp2("http://localhost", { createConnection: () => createConnection(path) });
  session.on("error", () => undefined);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes + 1, 1);
  for (let i = 0; i < calls; i++) {
    const stream = session.request({
      ":method": "POST",
      ":path": "/runtime.v1.RuntimeService/CreateContainer",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => undefined);
    stream.write(Buffer.concat([head, Buffer.alloc(bytes)]));
  }
  await once(session, "connect");
  return session;
}

test("of clients that do not end their requests the one with the most is closed, and the others are not", async () => {
  const modest = await beginRequests(10, 50_000);
  const greedy = await beginRequests(100, 100_000);
  await once(greedy, "close");
  assert.equal(modest.closed, false);
  // what it held is free
  const again = await beginRequests(10, 100_000);
  const asking = connect(path);
  await asking.call("Version", {});
  await sleep(100);
  assert.deepEqual([modest.closed, again.closed], [false, false]);
  for (const session of [modest, again]) session.destroy();
  asking.close();
});

test("requests that are sent to their end are none of these, however many", async () => {
  const asking = connect(path);
  const large = { version: "x".repeat(MiB) };
  for (let i = 0; i < 10; i++) await asking.call("Version", large);
  asking.close();
});

test("more calls of one connection than may run at once wait for their turn", async () => {
  const asking = connect(path);
  const answers = await Promise.all(Array.from({ length: 2 * callsOfConnection }, () => asking.call("Version", {})));
  assert.equal(answers.length, 2 * callsOfConnection);
  asking.close();
});
