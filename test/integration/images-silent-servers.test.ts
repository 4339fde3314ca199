/** Servers that keep a pull waiting: with nothing, with a byte now and then, with headers that never end. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, describe, it } from "node:test";
import { startBareServer } from "../support/bare-server.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startLyingRegistry } from "../support/lying-registry.js";

describe("servers that keep a pull waiting", () => {
  const image: BuiltImage = buildImage({ layers: [[{ path: "a", content: "a".repeat(10_000) }]], compression: "none" });
  const { digest, bytes } = image.layers[0] as BuiltImage["layers"][0];
  let service: TestImages;

  before(async () => {
    service = await openTestImages({ patience: { stallMs: 400, retryMs: 5 } });
  });
  after(() => service.close());

  const stalls = async (part: string, answer: (response: ServerResponse) => void, message: RegExp): Promise<void> => {
    const registry = await startLyingRegistry(image, (_request, response, path) => {
      if (!path.includes(part)) return false;
      answer(response);
      return true;
    });
    await assert.rejects(service.images.pull({ reference: `${registry.host}/x/y:1` }), {
      kind: "UNAVAILABLE",
      message,
    });
    assert.deepEqual(await service.layerNames(), []);
    await registry.stop();
  };

  const dribble = (response: ServerResponse, text: string): void => {
    const timer = setInterval(() => response.write(text), 50);
    response.once("close", () => clearInterval(timer));
  };

  it("are given up: before their answer, within it, and when they only dribble", async () => {
    await stalls("/manifests/", () => undefined, /127.*(?:timeout|does not come to its answer)/i);
    let requests = 0;
    await stalls(
      digest,
      (response) => {
        requests += 1;
        response.writeHead(200, { "content-length": bytes.length }).write(bytes.subarray(0, 100));
      },
      /127.*(?:timeout|has sent)/i,
    );
    assert.ok(requests > 1, "a new connection might have helped");
    const slowly = /127.*has sent \d+ bytes in \d+ s/;
    await stalls(
      digest,
      (response) => dribble(response.writeHead(200, { "content-length": bytes.length }), "x"),
      slowly,
    );
    await stalls("/manifests/", (response) => dribble(response.writeHead(200), " "), slowly);
  });

  it("headers that never end are given up, by their time and by their length", async () => {
    for (const [first, more, message] of [
      ["HTTP/1.1 200 OK\r\n", "x", /does not come to its answer|timeout/i],
      ["HTTP/1.1 200 OK\r\n", `x-${"y".repeat(4_000)}: z\r\n`, /header/i],
      ["", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", /does not come to its answer|timeout|header/i],
    ] as const) {
      const server = await startBareServer((socket) => {
        socket.write(first);
        const timer = setInterval(() => socket.write(more), 20);
        socket.once("close", () => clearInterval(timer));
      });
      await assert.rejects(service.images.pull({ reference: `${server.host}/x/y:1` }), {
        kind: "UNAVAILABLE",
        message,
      });
      await server.stop();
    }
  });
});
