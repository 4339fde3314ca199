/** Pulls that want the same layer share it, and none of them suffers from what the others do, or are. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import { type SlowRegistry, startSlowRegistry } from "../support/slow-registry.js";
import { writeTar } from "../support/tar-writer.js";

describe("pulls that share layers", () => {
  const tars = ["below", "above"].map((path) => writeTar([{ path, content: randomBytes(200_000) }]));
  const [below, above] = tars as [Buffer, Buffer];
  const one = buildImage({ layers: [below, above], config: { Labels: { n: "1" } }, compression: "none" });
  const two = buildImage({ layers: [below, above], config: { Labels: { n: "2" } }, compression: "none" });
  const digests = one.layers.map(({ digest }) => digest) as [string, string];
  let service: TestImages;

  before(async () => {
    service = await openTestImages({ patience: { stallMs: 30_000, retryMs: 5 } });
  });
  after(() => service.close());

  const forget = async (...images: BuiltImage[]): Promise<void> => {
    for (const { id } of images) await service.images.store.remove(id);
    assert.deepEqual(await service.layerNames(), []);
  };
  /** Serves both images: one as x/one, two as x/two. */
  const startBoth = (): Promise<SlowRegistry> =>
    startSlowRegistry(one, (_request, response, path) => {
      const wanted = path.includes("/x/two/") ? two : one;
      const blob = path.includes("/manifests/") ? wanted.manifest : wanted.configuration;
      if (!path.includes("/manifests/") && !path.endsWith(wanted.configuration.digest)) return false;
      response.writeHead(200, { "content-type": blob.mediaType }).end(blob.bytes);
      return true;
    });
  const times = (registry: SlowRegistry, digest: string): number =>
    registry.seen.filter(({ path }) => path.endsWith(digest)).length;

  it("go on when the one that began has been cancelled, and ask for nothing twice", async () => {
    const registry = await startBoth();
    const leaving = new AbortController();
    const left = service.images.pull({ reference: `${registry.host}/x/one:1`, signal: leaving.signal });
    await until(() => registry.asked().length === 2);
    const stays = service.images.pull({ reference: `${registry.host}/x/two:1` });
    await until(() => registry.seen.some(({ path }) => path.endsWith(two.configuration.digest)));
    // it joins right after it has read the configuration
    await sleep(200);
    for (const digest of digests) registry.send(digest, 1000);
    leaving.abort();
    await assert.rejects(left, { kind: "CANCELLED" });
    registry.sendAll();
    assert.equal((await stays).id, two.id);
    assert.deepEqual(
      digests.map((digest) => times(registry, digest)),
      [1, 1],
    );
    await forget(two);
    await registry.stop();
  });

  it("try for themselves when another one's bytes are not what they should be", async () => {
    for (const [bad, good] of [digests, [...digests].reverse()] as [string, string][]) {
      // promises the layers of `two`, and has something else
      const evil = buildImage({
        layers: tars.map((tar, index) => (digests[index] === bad ? writeTar([{ path: "evil" }]) : tar)),
        diffIds: digests,
        compression: "none",
      });
      const evilRegistry = await startSlowRegistry(evil);
      const registry = await startLyingRegistry(two);
      const evilPull = service.images.pull({ reference: `${evilRegistry.host}/x/y:1` });
      await until(() => evilRegistry.asked().length === 2);
      const pulled = service.images.pull({ reference: `${registry.host}/x/y:1` });
      await until(() => registry.seen.some(({ path }) => path.endsWith(two.configuration.digest)));
      await sleep(200);
      evilRegistry.sendAll(good);
      evilRegistry.sendAll();
      await assert.rejects(evilPull, { kind: "INTERNAL", message: /promises a layer with diff id/ });
      assert.equal((await pulled).id, two.id);
      await forget(two);
      await Promise.all([evilRegistry.stop(), registry.stop()]);
    }
  });

  it("do not wait for a registry that is not their own", async () => {
    const [slow, registry] = await Promise.all([startSlowRegistry(one), startLyingRegistry(two)]);
    const waiting = service.images.pull({ reference: `${slow.host}/x/y:1` });
    await until(() => slow.asked().length === 2);
    assert.equal((await service.images.pull({ reference: `${registry.host}/x/y:1` })).id, two.id);
    slow.sendAll();
    assert.equal((await waiting).id, one.id);
    await forget(one, two);
    await Promise.all([slow.stop(), registry.stop()]);
  });

  it("do not ask one registry for more than six layers at a time", async () => {
    const images = Array.from({ length: 4 }, (_, n) =>
      buildImage({
        layers: [1, 2].map((m) => [{ path: `${n}-${m}`, content: randomBytes(1000) }]),
        compression: "none",
      }),
    );
    const all = { ...one, layers: images.flatMap(({ layers }) => layers) };
    const registry = await startSlowRegistry(all, (_request, response, path) => {
      const wanted = images[Number(/\/image-([0-9])\//.exec(path)?.[1] ?? -1)] ?? one;
      const blob = path.includes("/manifests/") ? wanted.manifest : wanted.configuration;
      if (!path.includes("/manifests/") && !path.endsWith(wanted.configuration.digest)) return false;
      response.writeHead(200, { "content-type": blob.mediaType }).end(blob.bytes);
      return true;
    });
    const pulled = images.map((_, n) => service.images.pull({ reference: `${registry.host}/x/image-${n}/y:1` }));
    await until(() => registry.asked().length === 6);
    await until(() => registry.seen.length >= 4 + 4 + 6);
    await sleep(200);
    assert.equal(registry.asked().length, 6);
    const [first = ""] = registry.asked();
    registry.sendAll(first);
    await until(() => !registry.asked().includes(first) && registry.asked().length === 6);
    registry.sendAll();
    assert.deepEqual(
      (await Promise.all(pulled)).map(({ id }) => id),
      images.map(({ id }) => id),
    );
    await forget(...images);
    await registry.stop();
  });

  it("come to their end when they begin while another one of the same is being cancelled", async (context) => {
    const contents = ["a", "b", "c", "d"].map((name) => [{ path: name, content: randomBytes(20_000) }]);
    const image = buildImage({ layers: contents });
    const registry = await startLyingRegistry(image);
    await service.images.pull({ reference: `${registry.host}/x:1` });
    await registry.stop();
    const directory = await mkdtemp(join(tmpdir(), "berth-shared-"));
    context.after(() => rm(directory, { recursive: true }));
    const path = join(directory, "exported");
    await service.images.export({ images: [image.id], path, signal: new AbortController().signal });
    await forget(image);
    // made of the archives that the layers become, it is another one
    const [imported] = await service.images.import({ path });
    const id = imported?.id ?? "";
    // a layer's next flight begins a moment after the cancelled one has ended: two of them end in every order here
    for (let round = 0; round < 60; round++) {
      await service.images.store.remove(id);
      assert.deepEqual(await service.layerNames(), []);
      const leaving = new AbortController();
      const left = service.images.import({ path, signal: leaving.signal }).catch(({ kind }) => kind);
      await sleep(Math.random() * 25);
      leaving.abort();
      const [record] = await service.images.import({ path });
      assert.equal(record?.id, id);
      const told = await left;
      assert.ok(told === "CANCELLED" || told[0].id === id, String(told));
    }
    await service.images.store.remove(id);
    await service.layers.settle();
  });

  it("from two registries at once end in one layer each", async () => {
    const registries = await Promise.all(Array.from({ length: 8 }, (_, n) => startLyingRegistry(n % 2 ? one : two)));
    const records = await Promise.all(
      registries.map(({ host }) => service.images.pull({ reference: `${host}/x/y:1` })),
    );
    assert.deepEqual(new Set(records.map(({ id }) => id)), new Set([one.id, two.id]));
    assert.equal((await service.layerNames()).length, 2);
    await forget(one, two);
    for (const registry of registries) await registry.stop();
  });
});

async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !holds(); await sleep(5)) {
    if (Date.now() > end) assert.fail("it did not become so within 20 s");
  }
}
