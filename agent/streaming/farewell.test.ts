/** What was said last arrives, also with a client that takes its time. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Carrier, chunkBytes, headroom } from "./carrier.js";
import { DescriptorCarrier } from "./descriptor-carrier.js";
import { SocketCarrier } from "./socket-carrier.js";
import { SpdySession } from "./spdy/session.js";
import { WebSocketConnection } from "./websocket/connection.js";
import { CloseCode, Opcode } from "./websocket/frames.js";

/** More than a client has to close once it has taken all. */
const longAfterMs = 6_000;

async function connected(): Promise<{ client: Socket; socket: Socket }> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = createConnection({ port: (server.address() as { port: number }).port, host: "127.0.0.1" });
  const [socket] = (await once(server, "connection")) as [Socket];
  server.close();
  client.pause();
  return { client, socket };
}

const carriers: Record<string, (socket: Socket) => Carrier> = {
  "its descriptor": (socket) => new DescriptorCarrier(socket, Buffer.alloc(0)),
  "a socket of Node's": (socket) => new SocketCarrier(socket, Buffer.alloc(0)),
};

test("a connection that is over is not listened to any more, whoever pauses it", async () => {
  const timers = () => process.getActiveResourcesInfo().filter((what) => what === "Timeout").length;
  for (const open of Object.values(carriers)) {
    const { client, socket } = await connected();
    const carrier = open(socket);
    carrier.destroy();
    await sleep(50);
    const atFirst = timers();
    carrier.pause();
    assert.equal(timers(), atFirst);
    client.destroy();
  }
});

/** Says more than the kernels hold, and that this is all. */
const endings: Record<string, (carrier: Carrier) => void> = {
  SPDY: (carrier) => {
    const session = new SpdySession(carrier);
    while (session.hasRoom) carrier.write(Buffer.alloc(headroom + chunkBytes), headroom, headroom + chunkBytes);
    session.close();
  },
  WebSocket: (carrier) => {
    const connection = new WebSocketConnection(carrier);
    while (carrier.hasRoom) {
      connection.send(Opcode.binary, Buffer.alloc(headroom + chunkBytes), headroom, headroom + chunkBytes);
    }
    connection.close(CloseCode.normal, "");
  },
};

for (const [protocol, sayAll] of Object.entries(endings)) {
  for (const [kind, open] of Object.entries(carriers)) {
    test(`${protocol}, over ${kind}: a client that does not read for a while gets all of it`, {
      timeout: 60_000,
    }, async () => {
      const atFirst = readdirSync("/proc/self/fd").length;
      const { client, socket } = await connected();
      const carrier = open(socket);
      let written = 0;
      const write = carrier.write.bind(carrier);
      carrier.write = (buffer, start, end) => {
        written += end - start;
        write(buffer, start, end);
      };
      sayAll(carrier);
      await sleep(longAfterMs);
      let read = 0;
      client.on("data", (bytes: Buffer) => {
        read += bytes.length;
      });
      client.resume();
      await once(client, "end");
      assert.equal(read, written);
      client.destroy();
      for (let tries = 0; readdirSync("/proc/self/fd").length > atFirst && tries < 100; tries++) await sleep(20);
      assert.equal(readdirSync("/proc/self/fd").length, atFirst);
    });
  }
}
