/** Prefetches: pulls that nobody waits for give way to those that somebody waits for. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";
import { getPriority } from "node:os";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import { startSlowRegistry } from "../support/slow-registry.js";
import { unpackers } from "../support/unpackers.js";

const kilobyte = 1024;

describe("prefetching images", () => {
  let service: TestImages;
  let large: BuiltImage;
  let other: BuiltImage;

  before(async () => {
    service = await openTestImages();
    const layer = (name: string, size: number) => [{ path: name, content: randomBytes(size) }];
    large = buildImage({ layers: [layer("a", 400 * kilobyte), layer("b", 400 * kilobyte)], compression: "none" });
    other = buildImage({ layers: [layer("c", 100 * kilobyte)], compression: "none" });
  });
  after(() => service.close());

  const forget = async (...images: BuiltImage[]): Promise<void> => {
    for (const { id } of images) await service.images.store.remove(id);
    assert.deepEqual(await service.layerNames(), []);
  };

  it("keeps to a bandwidth, over all layers together", async () => {
    const registry = await startLyingRegistry(large);
    const once = async (): Promise<number> => {
      const begun = performance.now();
      const reference = `${registry.host}/x/y:1`;
      const record = await service.images.prefetch({ reference, bytesPerSecond: 800 * kilobyte });
      assert.equal(record.id, large.id);
      await forget(large);
      return (performance.now() - begun) / 1000;
    };
    // a machine that is busy is slower, never faster; one that held each layer back by itself would need half the time
    const seconds = await once();
    assert.ok(seconds > 0.9, `${seconds} s`);
    assert.ok(seconds < 10, `${seconds} s`);
    await registry.stop();
  });

  it("lets what unpacks its layers be nice until a pull wants them, too", async () => {
    const slow = await startSlowRegistry(large);
    const reference = `${slow.host}/x/y:1`;
    const nices = (): number[] => unpackers(service.root).map((pid) => getPriority(pid));
    const prefetched = service.images.prefetch({ reference });
    await until(() => nices().filter((nice) => nice === 19).length === 2);
    const leaving = new AbortController();
    const left = service.images.pull({ reference, signal: leaving.signal });
    await until(() => nices().every((nice) => nice === getPriority() + 10));
    leaving.abort();
    await assert.rejects(left, { kind: "CANCELLED" });
    await until(() => nices().every((nice) => nice === 19));
    const pulled = service.images.pull({ reference });
    await until(() => nices().every((nice) => nice === getPriority() + 10));
    slow.sendAll();
    await Promise.all([pulled, prefetched]);
    await forget(large);
    await slow.stop();
  });

  it("pauses while a pull runs, and goes on after it", async () => {
    const [slow, fast] = await Promise.all([startSlowRegistry(other), startSlowRegistry(large)]);
    fast.sendAll();
    const prefetched = service.images.prefetch({
      reference: `${fast.host}/x/y:1`,
      bytesPerSecond: 1600 * kilobyte,
    });
    const progress = () => service.images.progressOf({ reference: `${fast.host}/x/y:1` });
    const come = () => progress()?.layers.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0;
    await until(() => come() > 0);
    const pulled = service.images.pull({ reference: `${slow.host}/x/z:1` });
    await until(() => slow.asked().length === 1);
    // what was in the pipes still comes; then nothing does
    let paused = -1;
    while (come() !== paused) {
      paused = come();
      await sleep(300);
    }
    assert.ok(paused < 800 * kilobyte);
    slow.sendAll();
    await pulled;
    await prefetched;
    await forget(large, other);
    await Promise.all([slow.stop(), fast.stop()]);
  });

  it("keeps no pull from the registry that it is paused at", async () => {
    const many = [1, 2, 3, 4].map((n) =>
      buildImage({
        layers: [1, 2, 3].map((m) => [{ path: `${n}-${m}`, content: randomBytes(50 * kilobyte) }]),
        compression: "none",
      }),
    );
    const byName = new Map(many.map((image, n) => [`many-${n}`, image]));
    const all = { ...other, layers: [...other.layers, ...many.flatMap(({ layers }) => layers)] };
    const registry = await startLyingRegistry(all, (_request, response, path) => {
      const image = byName.get(path.split("/")[3] ?? "");
      const blob = path.includes("/manifests/") ? image?.manifest : image?.configuration;
      if (blob === undefined || (!path.includes("/manifests/") && !path.endsWith(blob.digest))) return false;
      response.writeHead(200, { "content-type": blob.mediaType }).end(blob.bytes);
      return true;
    });
    const abort = new AbortController();
    const references = [...byName.keys()].map((name) => `${registry.host}/x/${name}:1`);
    const prefetched = references.map((reference) =>
      service.images.prefetch({ reference, bytesPerSecond: 220, signal: abort.signal }),
    );
    const layers = (): number =>
      registry.seen.filter(({ path }) => many.some((image) => image.layers.some(({ digest }) => path.endsWith(digest))))
        .length;
    const settled = Promise.allSettled(prefetched);
    await until(() => layers() >= 8);
    const begun = performance.now();
    assert.equal((await service.images.pull({ reference: `${registry.host}/x/other:1` })).id, other.id);
    assert.ok(performance.now() - begun < 25_000);
    abort.abort();
    const ends = await settled;
    assert.ok(ends.every(({ status }) => status === "rejected"));
    await forget(other);
    await registry.stop();
  });

  it("goes on where it was when the registry has hung up during the pause", async () => {
    const slow = await startSlowRegistry(other);
    const connections = new Set<ServerResponse>();
    const [layer] = large.layers as [BuiltImage["layers"][0]];
    const registry = await startLyingRegistry(large, (request, response, path) => {
      if (!path.endsWith(layer.digest)) return false;
      const from = Number(/bytes=([0-9]+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
      const range = { "content-range": `bytes ${from}-${layer.bytes.length - 1}/${layer.bytes.length}` };
      response.writeHead(from === 0 ? 200 : 206, { "content-length": layer.bytes.length - from, ...(from && range) });
      if (from > 0) response.end(layer.bytes.subarray(from));
      else {
        // no more than the half comes over this connection
        response.write(layer.bytes.subarray(0, layer.bytes.length / 2));
        connections.add(response);
      }
      return true;
    });
    const reference = `${registry.host}/x/y:1`;
    const prefetched = service.images.prefetch({ reference });
    const come = () => service.images.progressOf({ reference })?.layers[0]?.bytes ?? 0;
    await until(() => come() > 100 * kilobyte);
    const pulled = service.images.pull({ reference: `${slow.host}/x/z:1` });
    await until(() => slow.asked().length === 1);
    for (const response of connections) response.destroy();
    slow.sendAll();
    await pulled;
    assert.equal((await prefetched).id, large.id);
    const asked = registry.seen.filter(({ path }) => path.endsWith(layer.digest));
    assert.ok(asked.length > 1 && asked.slice(1).every(({ headers }) => /^bytes=[1-9]/.test(headers.range ?? "")));
    await forget(large, other);
    await Promise.all([slow.stop(), registry.stop()]);
  });

  it("does not begin while a pull runs", async () => {
    const [slow, fast] = await Promise.all([startSlowRegistry(other), startLyingRegistry(large)]);
    const pulled = service.images.pull({ reference: `${slow.host}/x/z:1` });
    const prefetched = service.images.prefetch({ reference: `${fast.host}/x/y:1` });
    await sleep(100);
    assert.equal(fast.seen.length, 0);
    slow.sendAll();
    await Promise.all([pulled, prefetched]);
    await forget(large, other);
    await Promise.all([slow.stop(), fast.stop()]);
  });

  it("a pull that wants the same layers takes them over at full speed", async () => {
    const registry = await startSlowRegistry(large);
    registry.sendAll();
    const reference = `${registry.host}/x/y:1`;
    // at this pace it would take an hour
    const prefetched = service.images.prefetch({ reference, bytesPerSecond: 220 });
    const come = () => service.images.progressOf({ reference })?.layers.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0;
    await until(() => come() > 0);
    const begun = performance.now();
    const record = await service.images.pull({ reference });
    assert.ok(performance.now() - begun < 15_000);
    assert.equal(record.id, large.id);
    assert.equal((await prefetched).id, large.id);
    const blobs = registry.seen.filter(({ path }) => large.layers.some(({ digest }) => path.endsWith(digest)));
    assert.equal(blobs.length, 2);
    await forget(large);
    await registry.stop();
  });

  it("ends when it is cancelled, also while it is paused", async () => {
    const [slow, fast] = await Promise.all([startSlowRegistry(other), startLyingRegistry(large)]);
    const abort = new AbortController();
    const prefetched = service.images.prefetch({
      reference: `${fast.host}/x/y:1`,
      bytesPerSecond: 220,
      signal: abort.signal,
    });
    await until(() => fast.seen.length > 2);
    const pulled = service.images.pull({ reference: `${slow.host}/x/z:1` });
    await sleep(50);
    abort.abort();
    await assert.rejects(prefetched, { kind: "CANCELLED" });
    const waiting = new AbortController();
    const second = service.images.prefetch({ reference: `${fast.host}/x/y:1`, signal: waiting.signal });
    waiting.abort();
    await assert.rejects(second, { kind: "CANCELLED" });
    slow.sendAll();
    await pulled;
    await forget(other);
    await Promise.all([slow.stop(), fast.stop()]);
  });
});

async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !holds(); await sleep(5)) {
    if (Date.now() > end) assert.fail("it did not become so within 10 s");
  }
}
