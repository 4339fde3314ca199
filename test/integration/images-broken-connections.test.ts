/** Registries and networks that fail for a while: what has come is kept, and asking again has its manners. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { after, before, describe, it } from "node:test";
import type { FailureKind } from "../../sandbox/errors.js";
import { startBareServer } from "../support/bare-server.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { type Answer, type LyingRegistry, startLyingRegistry } from "../support/lying-registry.js";

describe("connections that break, servers that are busy", () => {
  const image: BuiltImage = buildImage({
    layers: [[{ path: "a", content: randomBytes(3_000_000) }]],
    compression: "none",
  });
  const { digest, bytes } = image.layers[0] as BuiltImage["layers"][0];
  const third = Math.floor(bytes.length / 3);
  let service: TestImages;

  before(async () => {
    service = await openTestImages({ patience: { stallMs: 30_000, retryMs: 5 } });
  });
  after(() => service.close());

  const withRegistry = async (answer: Answer, use: (registry: LyingRegistry) => Promise<void>): Promise<void> => {
    const registry = await startLyingRegistry(image, answer);
    try {
      await use(registry);
    } finally {
      await registry.stop();
    }
  };
  const pulls = (answer: Answer, check: (registry: LyingRegistry) => void = () => undefined): Promise<void> =>
    withRegistry(answer, async (registry) => {
      const record = await service.images.pull({ reference: `${registry.host}/x/y:1` });
      assert.equal(record.id, image.id);
      await service.images.store.remove(record.id);
      assert.deepEqual(await service.layerNames(), []);
      check(registry);
    });
  const fails = (
    answer: Answer,
    kind: FailureKind,
    message: RegExp,
    check: (registry: LyingRegistry) => void = () => undefined,
  ): Promise<void> =>
    withRegistry(answer, async (registry) => {
      await assert.rejects(service.images.pull({ reference: `${registry.host}/x/y:1` }), { kind, message });
      assert.deepEqual(await service.layerNames(), []);
      check(registry);
    });

  type Act = (request: IncomingMessage, response: ServerResponse, nth: number) => boolean | undefined;
  /** Acts on the requests for the layer, or for what the path has in it; counts them from 1. */
  const onEach = (act: Act, part: string = digest): Answer => {
    let nth = 0;
    return (request, response, path) => {
      if (!path.includes(part)) return false;
      nth += 1;
      return act(request, response, nth);
    };
  };
  const fromOf = (request: IncomingMessage): number =>
    Number(/^bytes=([0-9]+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const rangesOf = (registry: LyingRegistry): (string | undefined)[] =>
    registry.seen.filter(({ path }) => path.endsWith(digest)).map(({ headers }) => headers.range);
  /** Sends so much of the rest and hangs up. */
  const sendPart = (request: IncomingMessage, response: ServerResponse, length: number): true => {
    const from = fromOf(request);
    const rest = bytes.subarray(from);
    response.writeHead(from === 0 ? 200 : 206, {
      "content-length": rest.length,
      ...(from > 0 && { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
    });
    if (length >= rest.length) response.end(rest);
    else response.write(rest.subarray(0, length), () => setTimeout(() => response.destroy(), 20));
    return true;
  };
  const sendAll = (response: ServerResponse): true => {
    response.writeHead(200, { "content-length": bytes.length }).end(bytes);
    return true;
  };

  const say = (response: ServerResponse, status: number, headers: Record<string, string> = {}): true => {
    response.writeHead(status, headers).end();
    return true;
  };
  const hangUp = (response: ServerResponse): true => {
    response.destroy();
    return true;
  };

  it("a blob goes on where it broke, however often that happens", async () => {
    const ranges: (string | undefined)[] = [];
    await pulls(
      onEach((request, response) => sendPart(request, response, 400_000)),
      (registry) => ranges.push(...rangesOf(registry)),
    );
    assert.ok(ranges.length >= 8, `${ranges.length} requests`);
    assert.equal(ranges[0], undefined);
    assert.match(ranges.at(-1) ?? "", /^bytes=[0-9]+-$/);
  });

  it("a server that knows no ranges sends all again, and each byte counts once", () =>
    pulls(
      onEach((_request, response, nth) => {
        if (nth === 4) return sendAll(response);
        response.writeHead(200, { "content-length": bytes.length });
        response.write(bytes.subarray(0, nth * third - 1000), () => setTimeout(() => response.destroy(), 20));
        return true;
      }),
    ));

  it("a server that confuses ranges is asked for all", async () => {
    for (const confuse of [
      (response: ServerResponse) => response.writeHead(206, { "content-range": `bytes 0-9/${bytes.length}` }),
      (response: ServerResponse) => response.writeHead(206),
      (response: ServerResponse) => response.writeHead(416, { "content-range": `bytes */${bytes.length}` }),
    ]) {
      await pulls(
        onEach((request, response, nth) => {
          if (nth === 1) return sendPart(request, response, third);
          if (fromOf(request) === 0) return sendAll(response);
          confuse(response);
          response.end("something");
          return true;
        }),
      );
    }
    await fails(
      onEach((request, response, nth) => {
        if (nth === 1) return sendPart(request, response, third);
        response.writeHead(416).end();
        return true;
      }),
      "UNAVAILABLE",
      /HTTP 416/,
    );
  });

  it("a server that sends less than it was asked for, and says so, is asked for the rest", async () => {
    const ranges: (string | undefined)[] = [];
    await pulls(
      onEach((request, response, nth) => {
        if (nth === 1) return sendPart(request, response, third);
        const part = bytes.subarray(fromOf(request)).subarray(0, 300_000);
        const range = `bytes ${fromOf(request)}-${fromOf(request) + part.length - 1}/${bytes.length}`;
        response.writeHead(206, { "content-range": range, "content-length": part.length }).end(part);
        return true;
      }),
      (registry) => ranges.push(...rangesOf(registry)),
    );
    assert.ok(ranges.length >= 4, `${ranges.length} requests`);
  });

  it("a blob that has become another one in between is refused", () =>
    fails(
      onEach((request, response) => {
        const from = fromOf(request);
        if (from === 0) return sendPart(request, response, third);
        const other = Buffer.alloc(bytes.length - from, "x");
        response.writeHead(206, { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }).end(other);
        return true;
      }),
      "INTERNAL",
      new RegExp(`blob ${digest} has other content|no tar archive|checksum`),
    ));

  it("a blob whose end is only the connection's end is gone on with, too", async () => {
    const closing = await startBareServer((socket, request) => {
      const from = Number(/range: bytes=([0-9]+)-/i.exec(request)?.[1] ?? 0);
      const part = bytes.subarray(from, from + third);
      const range = from > 0 ? `Content-Range: bytes ${from}-${bytes.length - 1}/${bytes.length}\r\n` : "";
      socket.write(`HTTP/1.1 ${from > 0 ? 206 : 200} OK\r\n${range}Connection: close\r\n\r\n`);
      socket.end(part);
    });
    await pulls((_request, response, path) => {
      if (!path.endsWith(digest)) return false;
      response.writeHead(307, { location: `${closing.url}${path}` }).end();
      return true;
    });
    await closing.stop();
  });

  it("a blob of which only the end of the answer was lost is complete", () =>
    pulls(
      onEach((request, response) => {
        assert.equal(fromOf(request), 0);
        // chunked: the last chunk does not come
        response.writeHead(200).write(bytes, () => setTimeout(() => response.destroy(), 1_000));
        return true;
      }),
      (registry) => assert.deepEqual(rangesOf(registry), [undefined]),
    ));

  it("one that breaks each time at the same place is given up", () =>
    fails(
      onEach((request, response) => (fromOf(request) === 0 ? sendPart(request, response, third) : hangUp(response))),
      "UNAVAILABLE",
      /127\.0\.0\.1:\d+ failed/,
      (registry) => assert.ok(rangesOf(registry).length >= 5),
    ));

  it("busy servers are asked again, after the time that they want", async () => {
    const inSeconds = () => ({ "retry-after": "1" });
    const dates = [
      () => ({ "retry-after": new Date(Date.now() + 2_000).toUTCString() }),
      // its clock is an hour behind
      () => ({
        date: new Date(Date.now() - 3_600_000).toUTCString(),
        "retry-after": new Date(Date.now() - 3_598_000).toUTCString(),
      }),
    ];
    for (const [part, header] of [
      [digest, inSeconds],
      ...[inSeconds, ...dates].map((each) => ["/manifests/", each] as const),
    ] as const) {
      const times: number[] = [];
      await pulls(
        onEach((_request, response, nth) => {
          times.push(performance.now());
          return nth === 1 && say(response, 429, header());
        }, part),
      );
      const waited = (times[1] ?? 0) - (times[0] ?? 0);
      assert.ok(times.length === 2 && waited > 900 && waited < 20_000, `${waited} ms, ${header.toString()}`);
    }
  });

  it("errors that may pass are asked about five times, others once", async () => {
    for (const status of [408, 429, 500, 502, 503, 504]) {
      await pulls(onEach((_request, response, nth) => nth <= 4 && say(response, status), "/manifests/"));
      await fails(
        onEach((_request, response) => say(response, status), "/manifests/"),
        "UNAVAILABLE",
        new RegExp(`HTTP ${status} for 127.*x/y:1`),
        (registry) => assert.equal(registry.seen.length, 5),
      );
    }
    for (const status of [404, 403, 501, 505]) {
      await fails(
        onEach((_request, response) => say(response, status), "/manifests/"),
        status === 404 ? "NOT_FOUND" : status === 403 ? "PERMISSION_DENIED" : "UNAVAILABLE",
        /x\/y:1/,
        (registry) => assert.equal(registry.seen.length, 1),
      );
    }
  });

  it("who wants to be asked again in an hour is not waited for, and says why in its own words", () =>
    fails(
      onEach((_request, response) => {
        const message = "You have reached your pull rate limit.\u001b[31m\nUpgrade";
        response
          .writeHead(429, { "content-type": "application/json; charset=utf-8", "retry-after": "3600" })
          .end(JSON.stringify({ errors: [{ code: "TOOMANYREQUESTS", message }] }));
        return true;
      }, "/manifests/"),
      "UNAVAILABLE",
      /HTTP 429 for \S+x\/y:1: You have reached your pull rate limit\. \[31m Upgrade; it wants to be asked again in 3600 s$/,
      (registry) => assert.equal(registry.seen.length, 1),
    ));

  it("a wait ends with its caller", () =>
    withRegistry(
      onEach((_request, response) => say(response, 503, { "retry-after": "50" }), "/manifests/"),
      async (registry) => {
        const abort = new AbortController();
        const pulled = service.images.pull({ reference: `${registry.host}/x/y:1`, signal: abort.signal });
        while (registry.seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
        setTimeout(() => abort.abort(), 50);
        const begun = performance.now();
        await assert.rejects(pulled, { kind: "CANCELLED" });
        assert.ok(performance.now() - begun < 20_000);
      },
    ));
});
