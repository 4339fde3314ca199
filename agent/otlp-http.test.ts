import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Agent } from "undici";
import { postOtlp, shownUrl } from "./otlp-http.js";

test("a name and a password in an address are sent, and not told", async () => {
  const server = createServer((request, response) => {
    request.resume();
    response.end(request.headers.authorization);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const dispatcher = new Agent();
  try {
    const { port } = server.address() as AddressInfo;
    const url = new URL(`http://me:p%40ss@127.0.0.1:${port}/v1/traces?x=1`);
    const post = (headers: Record<string, string>) =>
      postOtlp(dispatcher, url, headers, "{}", AbortSignal.timeout(30_000)).then(({ text }) => text);
    assert.equal(await post({}), `Basic ${Buffer.from("me:p@ss").toString("base64")}`);
    assert.equal(await post({ authorization: "Bearer own" }), "Bearer own");
    assert.equal(shownUrl(url), `http://127.0.0.1:${port}/v1/traces`);
  } finally {
    await dispatcher.close();
    server.close();
  }
});
