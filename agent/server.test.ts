import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
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

const patienceMs = 200;
const scratch = mkdtempSync(join(tmpdir(), "berth-server-"));
const path = join(scratch, "s");
let server: CriServer;

before(async () => {
  const silent = pino({ level: "silent" });
  const log = Object.assign(silent, { areas: { calls: silent, steps: silent, events: silent } });
  const around = { log, recentCalls: new RecentCalls(), observeCall: () => undefined };
  server = await serve({ path, passed: null }, {} as Runtime, callTable, around, () => true, patienceMs);
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
