/** How much clients of the CRI socket may leave unread, with limits that a test can reach. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pino from "pino";
import { callTable } from "../../agent/call-table.js";
import { connect } from "../../agent/cli/client.js";
import { RecentCalls } from "../../agent/recent-calls.js";
import type { Runtime } from "../../agent/runtime.js";
import { type CriServer, serve } from "../../agent/server.js";
import { callAndNotRead } from "../support/unread-calls.js";

const KiB = 1024;
const answerBytes = 200 * KiB;
const patienceMs = 1_200;
const limits = { perConnection: 500 * KiB, inAll: 20_000 * KiB, patienceMs };
const tight = { perConnection: 500 * KiB, inAll: 2_000 * KiB, patienceMs: 60_000 };
const version = "/runtime.v1.RuntimeService/Version";
const scratch = mkdtempSync(join(tmpdir(), "berth-unsent-"));
const path = join(scratch, "s");
const tightPath = join(scratch, "t");
const said: string[] = [];
let begun = 0;
const servers: CriServer[] = [];

before(async () => {
  const silent = pino({ level: "silent" });
  const warning = pino({ level: "warn" }, { write: (line: string) => said.push(JSON.parse(line).msg) });
  const log = Object.assign(warning, { areas: { calls: silent, steps: silent, events: silent } });
  const around = { log, recentCalls: new RecentCalls(), observeCall: () => undefined };
  const answer = { runtime_name: "x".repeat(answerBytes) };
  const calls = {
    ...callTable,
    Version: () => answer,
    async *StreamContainers() {
      begun++;
      for (let i = 0; i < 4; i++) yield { containers: [{ id: "x".repeat(answerBytes) }] };
    },
  };
  const serveOn = (at: string, its: typeof limits) =>
    serve({ path: at, passed: null }, {} as Runtime, calls, around, () => true, 60_000, its);
  servers.push(await serveOn(path, limits), await serveOn(tightPath, tight));
});

after(async () => {
  await Promise.all(servers.map((server) => server.close()));
  rmSync(scratch, { recursive: true });
});

afterEach(() => {
  said.length = 0;
});

test("a client that reads slowly gets all that it has asked for, however long it takes", async () => {
  const session = connectHttp2("http://a", { createConnection: () => createConnection(path) });
  const ask = (): ClientHttp2Stream => {
    const stream = session.request({ ":method": "POST", ":path": version, "content-type": "application/grpc" });
    stream.end(Buffer.alloc(5));
    return stream;
  };
  const streams = Array.from({ length: 20 }, ask);
  let bytes = 0;
  for (const stream of streams) {
    await sleep((2 * patienceMs) / streams.length);
    for await (const piece of stream) bytes += (piece as Buffer).length;
  }
  assert.ok(bytes > streams.length * answerBytes, `${bytes} bytes`);
  assert.deepEqual(said, []);
  session.close();
});

for (const isWindowOpen of [false, true]) {
  const how = isWindowOpen ? "whose socket is full" : "whose window is closed";
  test(`a client ${how}, and that reads nothing, is closed, and others are not`, async () => {
    const other = connect(path);
    const silent = await callAndNotRead(path, version, 7, isWindowOpen);
    const begunMs = performance.now();
    const closed = once(silent, "close");
    // unread, its end would not be seen
    setTimeout(() => silent.resume(), 3 * patienceMs);
    for (let i = 0; i < 20; i++) {
      await other.call("Version", {});
      await sleep(patienceMs / 10);
    }
    assert.equal(said.length, 1, said.join("\n"));
    assert.match(
      said[0] ?? "",
      /^a client's connection with 2 MiB of unread answers was closed: it had taken nothing for/,
    );
    await closed;
    assert.ok(performance.now() - begunMs > patienceMs);
    await other.call("Version", {});
    other.close();
  });
}

test("where all together have too much, those with much go, and one with a single answer stays", async () => {
  const modest = await callAndNotRead(tightPath, version, 1, false);
  const greedy = [];
  for (let i = 0; i < 8; i++) greedy.push(await callAndNotRead(tightPath, version, 100, false));
  await sleep(200);
  assert.ok(said.length >= 4, said.join("\n"));
  for (const sentence of said) assert.match(sentence, /all clients together had 2 MiB$/);
  assert.equal(modest.closed, false);
  modest.resume();
  assert.equal(await Promise.race([once(modest, "close").then(() => "closed"), sleep(200, "open")]), "open");
  for (const client of [modest, ...greedy]) client.destroy();
});

test("streams of lists that nobody reads are not even begun", async () => {
  const silent = await callAndNotRead(path, "/runtime.v1.RuntimeService/StreamContainers", 50, false);
  await sleep(200);
  assert.ok(begun > 0 && begun < 5, `${begun} were begun`);
  silent.destroy();
  const other = connect(path);
  let pieces = 0;
  for await (const { containers } of other.stream("StreamContainers", {})) pieces += containers?.length ?? 0;
  assert.equal(pieces, 4);
  other.close();
});
