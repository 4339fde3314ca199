import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { parseImageConfig } from "../../sandbox/image-config.js";
import { type LayerStore, openLayerStore } from "../../sandbox/rootfs/layer-store.js";
import { digestOf } from "./digest.js";
import { type ImageRecord, type ImageStore, openImageStore } from "./image-store.js";

const id = (prefix: string): string => `sha256:${prefix.padEnd(64, "0")}`;
const config = parseImageConfig({ rootfs: { type: "layers", diff_ids: [] } });

function record(prefix: string, more: Partial<ImageRecord> = {}): ImageRecord {
  return {
    version: 1,
    id: id(prefix),
    configDigest: id(prefix),
    repoTags: [],
    repoDigests: [],
    sizeBytes: 1,
    layers: [],
    config,
    pulledAt: "1",
    ...more,
  };
}

describe("the image store", () => {
  let root: string;
  let layers: LayerStore;
  let store: ImageStore;
  let inUse: string[];

  const addLayer = async (chainId: string): Promise<void> => {
    await layers.commit(await layers.stage(chainId), { diffId: chainId, bytes: 10, inodes: 1 });
  };
  const open = async (): Promise<void> => {
    layers = await openLayerStore(root);
    store = await openImageStore({ root, layers, inUse: () => inUse });
  };

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "berth-store-"));
    inUse = [];
    await open();
  });
  afterEach(async () => {
    await layers.settle();
    await rm(root, { recursive: true, force: true, maxRetries: 5 });
  });

  it("survives a restart with names and order", async () => {
    await store.put(record("b", { repoTags: ["docker.io/library/b:1"], pulledAt: "5" }));
    await store.put(record("a", { repoTags: ["docker.io/library/a:1"], pulledAt: "6" }));
    await open();
    assert.deepEqual(
      store.list().map((image) => image.id),
      [id("b"), id("a")],
    );
    assert.equal(store.find("b:1")?.id, id("b"));
    assert.equal(store.find("docker.io/library/a:1")?.id, id("a"));
  });

  it("adds names to an image that is known and keeps its date", async () => {
    await store.put(record("a", { repoTags: ["docker.io/library/a:1"] }));
    const merged = await store.put(record("a", { repoTags: ["docker.io/library/a:2"], pulledAt: "9" }));
    assert.deepEqual(merged.repoTags, ["docker.io/library/a:1", "docker.io/library/a:2"]);
    assert.equal(merged.pulledAt, "1");
  });

  it("finds by unique prefix and says when it is not unique", async () => {
    const start = "abc123abc123";
    await store.put(record(`${start}1`));
    await store.put(record(`${start}2`));
    assert.equal(store.find(`${start}1`)?.id, id(`${start}1`));
    assert.equal(store.find(`sha256:${start}2`)?.id, id(`${start}2`));
    assert.throws(() => store.find(start), InvalidArgumentError);
    assert.equal(store.find("abc123abc124"), undefined);
  });

  it("takes a name for a name when it could be an id's prefix, too", async () => {
    await store.put(record("cafe"));
    await store.put(record("1", { repoTags: ["docker.io/library/cafe:latest"] }));
    assert.equal(store.find("cafe")?.id, id("1"));
  });

  it("takes no short name for an id: who makes an image that begins so must not be run in another's place", async () => {
    await store.put(record("cafedeadbeefcafe"));
    for (const name of ["cafe", "cafedead", "cafedeadbee", "sha256:cafe"]) assert.equal(store.find(name), undefined);
    assert.equal(store.find("cafedeadbeef")?.id, id("cafedeadbeefcafe"));
  });

  it("removes layers only when nobody needs them", async () => {
    for (const layer of ["1", "2", "3", "4"]) await addLayer(id(layer));
    await store.put(record("a", { layers: [id("1"), id("2"), id("3"), id("4")] }));
    await store.put(record("b", { layers: [id("1")] }));
    inUse = [id("2")];
    const release = store.hold([id("3")]);
    assert.equal((await store.remove(id("a")))?.id, id("a"));
    assert.deepEqual(
      layers
        .list()
        .map((layer) => layer.chainId)
        .sort(),
      [id("1"), id("2"), id("3")],
    );
    release();
    release();
    inUse = [];
    await store.collect();
    assert.deepEqual(
      layers.list().map((layer) => layer.chainId),
      [id("1")],
    );
    assert.equal(await store.remove(id("a")), undefined);
  });

  it("removes what was in use when its image was removed as soon as nobody uses it", async () => {
    await addLayer(id("1"));
    await store.put(record("a", { layers: [id("1")] }));
    inUse = [id("1")];
    await store.remove(id("a"));
    await store.collectOwed();
    assert.equal(layers.list().length, 1);
    inUse = [];
    await store.collectOwed();
    assert.equal(layers.list().length, 0);
  });

  it("a pull that comes amid a collection does not find layers that are about to go", async () => {
    for (const layer of ["1", "2", "3"]) await addLayer(id(layer));
    const remove = layers.remove;
    const found: boolean[] = [];
    layers.remove = async (chainId) => {
      await remove(chainId);
      for (const layer of ["1", "2", "3"]) found.push(layers.has(id(layer)));
    };
    await store.collect();
    assert.deepEqual(new Set(found), new Set([false]));
  });

  it("keeps labels, history and the text of a configuration on the disk only, whatever is done to its names", async () => {
    const text = JSON.stringify({
      rootfs: { type: "layers", diff_ids: [] },
      config: { User: "me", Labels: { a: "1" } },
      history: [{ comment: "x" }],
      own: "field",
    });
    const [imageId, parsed] = [digestOf(text), JSON.parse(text)];
    const whole = { ...record("a"), id: imageId, configuration: text, config: parseImageConfig(parsed) };
    const tags = ["docker.io/library/a:1", "docker.io/library/a:2"];
    const put = await store.put({ ...whole, repoTags: tags });
    await store.put(record("b", { repoTags: tags.slice(0, 1) }));
    await store.rewrite(imageId);
    const before = store.find(imageId);
    await open();
    for (const image of [put, before, store.find("a:2")]) {
      assert.ok(image);
      assert.deepEqual([image.config.config.User, image.config.config.Labels, image.config.history], ["me", {}, []]);
      assert.ok(!("configuration" in image));
      const told = await store.configurationOf(image);
      assert.deepEqual([told.text, told.parsed, told.config], [text, parsed, whole.config]);
    }
  });

  it("drops records that are torn or whose layers are missing", async () => {
    await store.put(record("a", { layers: [id("9")] }));
    await store.put(record("b"));
    await writeFile(join(root, "images", "half.json"), '{"version":1,"id"');
    await writeFile(join(root, "images", `${"c".repeat(64)}.json.new`), "{}");
    const broken: string[] = [];
    store = await openImageStore({ root, layers, onBroken: (_path, why) => broken.push(why) });
    assert.deepEqual(
      store.list().map((image) => image.id),
      [id("b")],
    );
    assert.equal(broken.length, 3);
    assert.ok(broken.some((why) => why.includes(id("9"))));
    assert.equal((await readdir(join(root, "images"))).length, 1);
  });
});
