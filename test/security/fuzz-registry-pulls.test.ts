/** Whole pulls from a registry whose every answer may be nearly right: done, or refused with a sentence, and nothing stays. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { BerthError, type FailureKind } from "../../sandbox/errors.js";
import { type Random, randomFrom } from "../../sandbox/spec/random-messages.js";
import { type BuiltImage, buildImage, hostArchitecture } from "../support/image-builder.js";
import { openTestImages } from "../support/image-service.js";
import { mutate, mutateText, oneOf } from "../support/mutations.js";
import { type ServedBlobs, serveBlobs } from "../support/served-blobs.js";
import { fuzzSeconds, fuzzSeed, mistake, readCorpus } from "./fuzz-support.js";

const expected: readonly FailureKind[] = [
  "INVALID_ARGUMENT",
  "NOT_FOUND",
  "PERMISSION_DENIED",
  "UNAVAILABLE",
  "INTERNAL",
];
/** A pull that waits for something that does not come. */
const longestMs = 60_000;
const oneLayer = "application/vnd.oci.image.layer.v1.tar";
const indexType = "application/vnd.oci.image.index.v1+json";

/** What is served in a round: a manifest, perhaps in an index, a configuration and layers, some of them mutated. */
function serveSomething(random: Random, registry: ServedBlobs, image: BuiltImage, others: string[]): void {
  const change = (text: string, chance: number): string => (random() < chance ? mutate(random, text, others) : text);
  const configText = change(image.configuration.bytes.toString(), 0.3);
  const config = registry.add(configText, image.configuration.mediaType);
  const layers = image.tars.map((tar) => {
    const bytes = random() < 0.1 ? Buffer.from(mutateText(random, tar.toString("latin1"), others), "latin1") : tar;
    return registry.add(bytes, oneLayer, oneOf(random, ["sha256", "sha256", "sha384", "sha512"]));
  });
  const manifest = { schemaVersion: 2, mediaType: image.manifest.mediaType, config, layers };
  let text = change(JSON.stringify(manifest), 0.4);
  let type = image.manifest.mediaType;
  for (let depth = Math.floor(random() * 3); depth > 0; depth--) {
    const platform = { os: "linux", architecture: hostArchitecture };
    text = change(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: indexType,
        manifests: [{ ...registry.add(text, type), platform }],
      }),
      0.3,
    );
    type = indexType;
  }
  registry.document = { bytes: Buffer.from(text), type: oneOf(random, [type, type, "text/html", ""]) };
}

const statuses = [100, 101, 199, 200, 204, 206, 301, 302, 307, 308, 400, 401, 403, 404, 405, 416, 418, 501, 999];

/** Answers now and then with what no good registry would. */
function misbehave(random: Random, response: ServerResponse, path: string, others: string[]): boolean {
  if (random() > 0.15) return false;
  const location = oneOf(random, [
    path,
    "",
    "//",
    "/v2/x",
    "http://127.0.0.1:1/",
    "ftp://x",
    "http://[",
    "?",
    `${path}?1`,
  ]);
  const headers: Record<string, string> = {
    location,
    "content-type": oneOf(random, ["", "application/json", "text/html", "application/json;;;", "x".repeat(500)]),
    "www-authenticate": asHeader(mutateText(random, oneOf(random, others), others)),
    "content-range": oneOf(random, ["bytes 0-1/2", "bytes 0-", "bytes */5", "x", "bytes 99999999999999999999-1/1"]),
    "retry-after": oneOf(random, ["0", "-1", "x", "99999", "Thu, 01 Jan 1970 00:00:00 GMT"]),
    "content-encoding": oneOf(random, ["", "gzip", "identity", "nonsense"]),
    ...(random() < 0.3 && { "content-length": oneOf(random, ["0", "5", "1000000"]) }),
  };
  const kind = random();
  if (kind < 0.1) response.destroy();
  else if (kind < 0.2)
    response.socket?.end(oneOf(random, ["", "HTTP/1.1", "HTTP/1.1 200\r\n\r\n", "x\r\n\r\n", "HTTP/2 200 OK\r\n\r\n"]));
  else {
    try {
      response.writeHead(oneOf(random, statuses), headers);
      response.write(mutateText(random, oneOf(random, others), others));
    } catch {
      // a header or a status that Node does not send
    }
    if (random() < 0.3) response.destroy();
    else response.end();
  }
  return true;
}

function asHeader(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, " ").slice(0, 4_000);
}

test(`pulls from a registry that is nearly right, seed ${fuzzSeed}`, async (t) => {
  const image = buildImage({
    layers: [[{ path: "a", content: randomBytes(3_000) }], [{ path: "b", content: "b" }]],
    compression: "none",
  });
  const others = ["manifest", "config", "token", "challenge"].flatMap((name) => readCorpus(`registry/${name}`));
  const service = await openTestImages({ patience: { stallMs: 1_000, retryMs: 1 } });
  let random = randomFrom(fuzzSeed);
  let rounds = 0;
  let pulled = 0;
  const registry = await serveBlobs(image, (_request, response, path) => misbehave(random, response, path, others));
  try {
    for (const end = performance.now() + fuzzSeconds * 1000; performance.now() < end; rounds++) {
      random = randomFrom(fuzzSeed * 1_000_003 + rounds);
      const round = `round ${rounds} of seed ${fuzzSeed}`;
      registry.seen.length = 0;
      serveSomething(random, registry, image, others);
      const reference = `${registry.host}/x/y:1`;
      const begun = performance.now();
      try {
        const { id, repoTags } = await service.images.pull({
          reference,
          signal: AbortSignal.timeout(longestMs),
          auth: oneOf(random, [{}, { username: "a", password: "b" }, { identityToken: "t" }, { registryToken: "t" }]),
        });
        assert.deepEqual(repoTags, [reference]);
        await service.images.store.remove(id);
        pulled += 1;
      } catch (error) {
        const { message } = error as Error;
        const isRefusal = error instanceof BerthError && expected.includes(error.kind) && message.length < 4_000;
        // so that a sentence which quotes the registry is not taken for a mistake, only unmistakable ones count
        const isMistake = mistake.test(message.replaceAll(/"[^"]*"/g, "")) && !(error instanceof BerthError);
        if (!isRefusal || isMistake) assert.fail(`${round}: ${String((error as Error).stack).slice(0, 3_000)}`);
      }
      assert.ok(performance.now() - begun < longestMs, `${round} took too long`);
      assert.ok(registry.seen.length < 200, `${round}: ${registry.seen.length} requests`);
      assert.deepEqual(service.images.store.list(), [], round);
      assert.deepEqual(await service.layerNames(), [], round);
    }
  } finally {
    await registry.stop();
    await service.close();
  }
  t.diagnostic(`${rounds} pulls, ${pulled} succeeded`);
  assert.ok(pulled > 0 || rounds < 200, "some succeed");
});
