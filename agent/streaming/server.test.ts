import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { createConnection } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { StreamingServer } from "./server.js";

const server = new StreamingServer({ host: "127.0.0.1", port: 0 }, null);
let port = 0;

before(async () => {
  await server.listen();
  port = Number(new URL(server.issue({ method: "portforward", forward: () => undefined })).port);
});
after(() => server.close());

const descriptors = () => readdirSync("/proc/self/fd").length;
const request = [
  "GET /exec/no-such-token HTTP/1.1",
  "Host: node",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
  "",
  "",
].join("\r\n");

/** A client that goes on after its request as if it had been let in, and then goes; answers what it was told. */
function client(reads: boolean): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = createConnection({ port, host: "127.0.0.1", allowHalfOpen: true }, async () => {
      socket.write(request);
      await sleep(5);
      socket.write(Buffer.alloc(100));
      await sleep(20);
      socket.destroy();
    });
    if (reads) socket.on("data", (bytes) => (answer += bytes.toString()));
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(answer));
  });
}

async function untilAtMost(count: number, patienceMs: number): Promise<void> {
  for (const until = Date.now() + patienceMs; descriptors() > count && Date.now() < until; await sleep(10));
  assert.ok(descriptors() <= count, `${descriptors()} descriptors, ${count} before`);
}

for (const reads of [true, false]) {
  test(`a client that is refused${reads ? "" : ", reads nothing of it"} and goes keeps no descriptor`, async () => {
    const atFirst = descriptors();
    const answers = await Promise.all(Array.from({ length: 20 }, () => client(reads)));
    if (reads) assert.match(answers[0] ?? "", /^HTTP\/1.1 404 .*there is no such stream/s);
    await untilAtMost(atFirst, 2_000);
  });
}

test("a client that is refused and stays is left", async () => {
  const atFirst = descriptors();
  const socket = createConnection({ port, host: "127.0.0.1", allowHalfOpen: true }, () => socket.write(request));
  socket.resume();
  await once(socket, "end");
  assert.equal(descriptors(), atFirst + 2);
  await untilAtMost(atFirst + 1, 8_000);
  socket.destroy();
});
