import assert from "node:assert/strict";
import { lstat, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { InvalidArgumentError, NotFoundError } from "../../sandbox/errors.js";
import {
  type BuiltImage,
  buildBusyboxImage,
  buildImage,
  buildIndex,
  hostArchitecture,
  pushImage,
  pushManifest,
} from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import { startRegistry, type TestRegistry } from "../support/registry.js";

describe("pulling from a real registry", () => {
  let registry: TestRegistry;
  let service: TestImages;
  let busybox: BuiltImage;
  let manifestDigest: string;

  before(async () => {
    registry = await startRegistry();
    service = await openTestImages();
    busybox = await buildBusyboxImage();
    manifestDigest = await pushImage(registry.url, "test/busybox", "1", busybox);
  });
  after(async () => {
    await service.close();
    await registry.stop();
  });

  it("unpacks the layers and answers the configuration's digest", async () => {
    const name = `${registry.host}/test/busybox`;
    const record = await service.images.pull({ reference: `${name}:1` });
    assert.equal(record.id, busybox.id);
    assert.deepEqual(record.repoTags, [`${name}:1`]);
    assert.deepEqual(record.repoDigests, [`${name}@${manifestDigest}`]);
    assert.deepEqual(record.config.config.Cmd, ["sh"]);
    assert.equal(record.layers.length, 2);
    assert.ok(record.sizeBytes > 1_000_000);
    const base = service.layers.path(record.layers[0] as string);
    assert.deepEqual(await readFile(join(base, "bin/sh")), await readFile("/bin/busybox"));
    assert.equal((await lstat(join(base, "tmp"))).mode & 0o7777, 0o1777);
    assert.deepEqual(await service.layerNames(), record.layers.map((id) => id.slice(7, 39)).sort());
  });

  it("finds the image by every kind of reference", async () => {
    const name = `${registry.host}/test/busybox`;
    const { store } = service.images;
    const hex = busybox.id.slice("sha256:".length);
    for (const reference of [busybox.id, hex, hex.slice(0, 12), `${name}:1`, `${name}@${manifestDigest}`]) {
      assert.equal(store.find(reference)?.id, busybox.id, reference);
    }
    for (const reference of ["busybox", `${name}:2`, name, "", "not a reference", hex.replace(/^./, "z")]) {
      assert.equal(store.find(reference), undefined, reference);
    }
  });

  it("pulls by digest, keeps the names apart, and shares the layers", async () => {
    const name = `${registry.host}/test/busybox`;
    const record = await service.images.pull({ reference: `${name}:nonsense@${manifestDigest}` });
    assert.equal(record.id, busybox.id);
    assert.deepEqual(record.repoTags, [`${name}:1`]);
    const bigger = await buildBusyboxImage({ layers: [[{ path: "extra", content: "more" }]] });
    await pushImage(registry.url, "test/bigger", "latest", bigger);
    const other = await service.images.pull({ reference: `${registry.host}/test/bigger` });
    assert.deepEqual(other.layers.slice(0, 2), record.layers);
    assert.equal(service.layers.list().length, 3);
    await service.images.store.remove(other.id);
    assert.equal(service.layers.list().length, 2);
  });

  it("asks for nothing but the manifest, and writes nothing, when an image is here already", async () => {
    const image = buildImage({ layers: [[{ path: "a", content: "here" }]] });
    const asked = await startLyingRegistry(image);
    const pull = async (name: string): Promise<string[]> => {
      asked.seen.length = 0;
      assert.equal((await service.images.pull({ reference: `${asked.host}/${name}` })).id, image.id);
      return asked.seen.map(({ path }) => path.split("/").at(-2) ?? "");
    };
    const written = async () => (await lstat(join(service.images.store.directory, `${image.id.slice(7)}.json`))).ino;
    assert.deepEqual(await pull("own/image:1"), ["manifests", "blobs", "blobs"]);
    const before = await written();
    assert.deepEqual(await pull("own/image:1"), ["manifests"]);
    assert.equal(await written(), before);
    assert.deepEqual(await pull("own/image:2"), ["manifests"]);
    assert.notEqual(await written(), before);
    // the digest alone is no proof that somebody may have it
    assert.deepEqual(await pull("another/image:1"), ["manifests", "blobs"]);
    const record = service.images.store.find(image.id);
    assert.deepEqual(
      record?.repoTags,
      ["own/image:1", "own/image:2", "another/image:1"].map((name) => `${asked.host}/${name}`),
    );
    await service.images.store.remove(image.id);
    await asked.stop();
  });

  it("moves a tag to the newer image", async () => {
    const name = `${registry.host}/test/moving:1`;
    const first = buildImage({ layers: [[{ path: "a", content: "1" }]] });
    const second = buildImage({ layers: [[{ path: "a", content: "2" }]], compression: "none" });
    await pushImage(registry.url, "test/moving", "1", first);
    await service.images.pull({ reference: name });
    await pushImage(registry.url, "test/moving", "1", second);
    await service.images.pull({ reference: name });
    const { store } = service.images;
    assert.equal(store.find(name)?.id, second.id);
    assert.deepEqual(store.find(first.id)?.repoTags, []);
    assert.equal(store.find(first.id)?.repoDigests.length, 1);
    const reopened = await openTestImages({ root: service.root });
    assert.equal(reopened.images.store.find(name)?.id, second.id);
    await store.remove(first.id);
    await store.remove(name);
  });

  it("chooses the machine's platform from an index and reads Docker's schema 2", async () => {
    const own = buildImage({ layers: [[{ path: "own" }]], format: "docker" });
    const foreign = buildImage({ layers: [[{ path: "foreign" }]], architecture: "mips64le" });
    const digests: string[] = [];
    for (const image of [own, foreign]) digests.push(await pushImage(registry.url, "test/multi", "part", image));
    const index = buildIndex([
      [{ os: "linux", architecture: "mips64le" }, foreign],
      [{ os: "linux", architecture: hostArchitecture }, own],
    ]);
    await pushManifest(registry.url, "test/multi", "all", index);
    const record = await service.images.pull({ reference: `${registry.host}/test/multi:all` });
    assert.equal(record.id, own.id);
    assert.deepEqual(record.repoDigests, [`${registry.host}/test/multi@${index.digest}`]);
    await pushManifest(
      registry.url,
      "test/multi",
      "none",
      buildIndex([[{ os: "linux", architecture: "mips64le" }, foreign]]),
    );
    await assert.rejects(service.images.pull({ reference: `${registry.host}/test/multi:none` }), (error: Error) => {
      assert.ok(error instanceof NotFoundError);
      assert.match(error.message, /test\/multi:none has no image for linux\/.*it has linux\/mips64le/);
      return true;
    });
    await assert.rejects(
      service.images.pull({ reference: `${registry.host}/test/multi@${digests[1]}` }),
      InvalidArgumentError,
    );
    await service.images.store.remove(record.id);

    // entries without a platform have their configuration's
    await pushManifest(
      registry.url,
      "test/multi",
      "untold",
      buildIndex([
        [{}, foreign],
        [{}, own],
      ]),
    );
    const untold = await service.images.pull({ reference: `${registry.host}/test/multi:untold` });
    assert.equal(untold.id, own.id);
    await service.images.store.remove(untold.id);
  });

  it("says what is not there, naming it", async () => {
    const before = await service.layerNames();
    await assert.rejects(service.images.pull({ reference: `${registry.host}/test/busybox:gone` }), (error: Error) => {
      assert.ok(error instanceof NotFoundError);
      assert.match(error.message, /test\/busybox:gone/);
      return true;
    });
    await assert.rejects(service.images.pull({ reference: "127.0.0.1:1/nothing" }), {
      kind: "UNAVAILABLE",
      message: /127\.0\.0\.1:1 .*ECONNREFUSED/,
    });
    await assert.rejects(service.images.pull({ reference: `${registry.host}/Test/x` }), InvalidArgumentError);
    assert.deepEqual(await service.layerNames(), before);
  });

  it("takes many pulls of one image at once, and cancels", async () => {
    const content = Buffer.alloc(8_000_000, "x");
    const layers = [1, 2, 3, 4].map((n) => [
      { path: `file-${n}`, content: Buffer.concat([content, Buffer.from(`${n}`)]) },
    ]);
    const image = buildImage({ layers, compression: "none" });
    await pushImage(registry.url, "test/large", "1", image);
    const reference = `${registry.host}/test/large:1`;
    const before = await service.layerNames();
    const abort = new AbortController();
    const cancelled = service.images.pull({ reference, signal: abort.signal });
    setTimeout(() => abort.abort(), 30);
    await assert.rejects(cancelled, { kind: "CANCELLED" });
    assert.deepEqual(await service.layerNames(), before);
    const records = await Promise.all(Array.from({ length: 10 }, () => service.images.pull({ reference })));
    assert.ok(records.every((record) => record.id === image.id));
    assert.equal((await service.layerNames()).length, before.length + 4);
    await service.images.store.remove(reference);
    assert.deepEqual(await service.layerNames(), before);
  });

  it("refuses a layer that is not what the configuration promises", async () => {
    const image = buildImage({ layers: [[{ path: "a" }]], diffIds: [`sha256:${"0".repeat(64)}`] });
    await pushImage(registry.url, "test/lie", "1", image);
    const before = await service.layerNames();
    await assert.rejects(service.images.pull({ reference: `${registry.host}/test/lie:1` }), (error: Error) => {
      assert.match(error.message, /sha256:0{64}.*sha256:[0-9a-f]{64}/);
      return true;
    });
    assert.deepEqual(await service.layerNames(), before);
  });
});
