/** Bodies that are read into a few buffers, again and again: whoever is slow, and whatever else comes, gets the right bytes. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { after, before, describe, it } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { Agent, buildConnector } from "undici";
import { type Answer, exchange, reusingConnector } from "../../agent/images/http-exchange.js";
import { makeAuthority, type TestAuthority } from "../support/certificates.js";

const content = randomBytes(6_000_000);
const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const never = new AbortController().signal;

const answers: Record<string, RequestListener> = {
  "/whole": (_, response) => response.setHeader("content-length", content.length).end(content),
  "/chunked": async (_, response) => {
    for (let at = 0; at < content.length; at += 70_001) {
      response.write(content.subarray(at, at + 70_001));
      await nextTurn();
    }
    response.end();
  },
  "/early": (_, response) => {
    response.writeEarlyHints({ link: "</x>; rel=preload" });
    response.end("later");
  },
  "/broken": (_, response) => {
    response.setHeader("content-length", content.length);
    response.write(content.subarray(0, 500_000), () => response.destroy());
  },
  "/empty": (_, response) => response.end(),
  "/closing": (_, response) => sendAndClose(response.setHeader("content-length", 5000)),
  "/closing-chunked": (_, response) => sendAndClose(response),
  "/closing-without-length": (_, response) => {
    response.removeHeader("transfer-encoding");
    sendAndClose(response);
  },
  "/closing-early": (_, response) => sendAndClose(response.setHeader("content-length", 5001)),
};

/** Everything comes at once, and then the connection's end. */
function sendAndClose(response: ServerResponse): void {
  response.setHeader("connection", "close");
  response.flushHeaders();
  setTimeout(() => {
    const { socket } = response;
    if (response.getHeader("content-length") === 5001) response.write(content.subarray(0, 5000), () => socket?.end());
    else response.end(content.subarray(0, 5000));
  }, 20);
}

let sockets = 0;
async function serve(server: Server): Promise<string> {
  server.on(server.listenerCount("secureConnection") > 0 ? "secureConnection" : "connection", () => sockets++);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("an exchange", () => {
  let authority: TestAuthority;
  let agent: Agent;
  const servers: Server[] = [];
  const origins: string[] = [];

  before(async () => {
    authority = await makeAuthority();
    const { certificate, key } = await authority.server("IP:127.0.0.1");
    const listener: RequestListener = (request, response) => answers[request.url ?? ""]?.(request, response);
    servers.push(createServer(listener));
    servers.push(createTlsServer({ cert: readFileSync(certificate), key: readFileSync(key) }, listener));
    for (const [i, server] of servers.entries()) origins.push(`http${i === 1 ? "s" : ""}://${await serve(server)}`);
    agent = new Agent({ connect: reusingConnector(buildConnector, { ca: readFileSync(authority.certificate) }) });
  });
  after(async () => {
    await agent.destroy();
    for (const server of servers) server.close();
    await authority.remove();
  });

  const get = (origin: string, path: string, signal = never): Promise<Answer> =>
    exchange(agent, new URL(origin + path), { method: "GET", headers: {} }, signal);

  /** As a slow reader: many turns of the loop, in which the sockets could read on, lie before each piece is looked at. */
  async function digestOf({ body }: Answer, turns: number): Promise<string> {
    const hash = createHash("sha256");
    for await (const piece of body) {
      for (let i = 0; i < turns; i++) await nextTurn();
      hash.update(piece);
    }
    return hash.digest("hex");
  }

  it("ends well when the connection does while its answer waits to be read, and is no whole one that is cut off", async () => {
    for (const origin of origins) {
      for (const path of ["/closing", "/closing-chunked", "/closing-without-length", "/closing-early"]) {
        const { body } = await get(origin, path);
        let length = 0;
        const read = async () => {
          for await (const piece of body) {
            length += piece.length;
            await sleep(80);
          }
        };
        if (path === "/closing-early") await assert.rejects(read(), `${origin}${path}`);
        else await read();
        assert.equal(length, 5000, `${origin}${path}`);
      }
    }
  });

  for (const path of ["/whole", "/chunked"]) {
    it(`brings ${path} to readers of every pace at once, in the clear and by TLS`, async () => {
      const reads = origins.flatMap((origin) =>
        [0, 1, 7].map(async (turns) => digestOf(await get(origin, path), turns)),
      );
      for (const read of await Promise.all(reads)) assert.equal(read, digest(content));
    });
  }

  it("uses a connection again after a whole body, also one without bytes", async () => {
    const origin = origins[0] ?? "";
    await digestOf(await get(origin, "/empty"), 0);
    const begun = sockets;
    for (let i = 0; i < 3; i++) assert.equal(await digestOf(await get(origin, "/whole"), 0), digest(content));
    assert.ok(sockets - begun <= 1, `${sockets - begun} connections`);
  });

  it("waits for the answer behind hints that there will be one", async () => {
    const answer = await get(origins[0] ?? "", "/early");
    assert.equal(answer.status, 200);
    assert.equal(await digestOf(answer, 0), digest(Buffer.from("later")));
  });

  it("tells of a connection that breaks, after what had come", async () => {
    const { body } = await get(origins[0] ?? "", "/broken");
    let bytes = 0;
    await assert.rejects(async () => {
      for await (const piece of body) bytes += piece.length;
    });
    assert.ok(bytes <= 500_000);
  });

  it("ends with its signal: before the answer, while somebody waits for a piece, and between two pieces", async () => {
    await assert.rejects(get(origins[0] ?? "", "/whole", AbortSignal.abort(new Error("too late"))), /too late/);
    const before = new AbortController();
    const waiting = get(origins[0] ?? "", "/never", before.signal);
    before.abort(new Error("changed its mind"));
    await assert.rejects(waiting, /changed its mind/);
    const between = new AbortController();
    const { body } = await get(origins[0] ?? "", "/whole", between.signal);
    await body.next();
    between.abort(new Error("enough"));
    await assert.rejects(async () => {
      for await (const _ of body);
    }, /enough/);
  });

  it("can be left in the middle", async () => {
    const { body } = await get(origins[1] ?? "", "/whole");
    for await (const piece of body) {
      assert.ok(piece.length > 0);
      break;
    }
    assert.equal(await digestOf(await get(origins[1] ?? "", "/whole"), 0), digest(content));
  });
});
