import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { InternalError, InvalidArgumentError } from "../errors.js";
import { openLayerStore } from "./layer-store.js";

const chain = `sha256:${"ab".repeat(32)}`;
const result = { diffId: `sha256:${"cd".repeat(32)}`, bytes: 100, inodes: 3 };

describe("the layer store", () => {
  let root: string;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "berth-layer-store-"));
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  it("shows a layer when it is committed, and after a restart", async () => {
    const store = await openLayerStore(root);
    const staging = await store.stage(chain);
    await writeFile(join(staging.directory, "file"), "1");
    assert.equal(store.has(chain), false);
    assert.throws(() => store.path(chain), InternalError);
    await store.commit(staging, result);
    assert.equal(store.path(chain), join(root, "layers", "ab".repeat(16), "fs"));
    const again = await openLayerStore(root);
    assert.deepEqual(again.list(), [{ chainId: chain, ...result }]);
    assert.deepEqual(await readdir(again.path(chain)), ["file"]);
  });

  it("keeps the first of two commits", async () => {
    const store = await openLayerStore(root);
    const [first, second] = [await store.stage(chain), await store.stage(chain)];
    await writeFile(join(first.directory, "first"), "");
    await store.commit(first, result);
    await store.commit(second, { ...result, bytes: 7 });
    assert.deepEqual(await readdir(store.path(chain)), ["first"]);
    assert.equal(store.list()[0]?.bytes, 100);
    assert.deepEqual(await readdir(join(root, "layers")), ["ab".repeat(16)]);
  });

  it("aborts and removes without traces, more than once", async () => {
    const store = await openLayerStore(root);
    const staging = await store.stage(chain);
    await store.abort(staging);
    await store.abort(staging);
    await store.commit(await store.stage(chain), result);
    await store.remove(chain);
    assert.equal(store.has(chain), false);
    await store.remove(chain);
    await store.settle();
    assert.deepEqual(await readdir(join(root, "layers")), []);
  });

  it("sweeps at open what was not finished", async () => {
    const store = await openLayerStore(root);
    await store.stage(chain);
    await mkdir(join(root, "layers", ".removed-1", "fs"), { recursive: true });
    await mkdir(join(root, "layers", "0".repeat(32), "fs"), { recursive: true });
    const again = await openLayerStore(root);
    await again.settle();
    assert.deepEqual(again.list(), []);
    assert.deepEqual(await readdir(join(root, "layers")), []);
  });

  it("gives up at open what a crash of the machine may have left without content, and nothing that is on the disk", async () => {
    const path = join(root, "layers", "ab".repeat(16), "layer.json");
    // the agents of this test all live on, and sync the same layer: two of them may write at once
    const told = async (): Promise<string> => {
      for (;;) {
        const text = await readFile(path, "utf8");
        if (text.endsWith("}\n")) return text;
      }
    };
    const store = await openLayerStore(root, undefined, "boot-1");
    await store.commit(await store.stage(chain), result);
    assert.equal(JSON.parse(await told()).unsyncedIn, "boot-1");
    // of an agent that was killed, nothing is lost
    assert.equal((await openLayerStore(root, undefined, "boot-1")).has(chain), true);
    const after = await openLayerStore(root, undefined, "boot-2");
    await after.settle();
    assert.deepEqual([after.list(), await readdir(join(root, "layers"))], [[], []]);

    await after.commit(await after.stage(chain), result);
    for (let tries = 0; JSON.parse(await told()).unsyncedIn !== undefined; tries++) {
      assert.ok(tries < 600, "the layer was not synced");
      await sleep(50);
    }
    assert.deepEqual((await openLayerStore(root, undefined, "boot-3")).list(), [{ chainId: chain, ...result }]);
    assert.deepEqual((await readdir(join(root, "layers", "ab".repeat(16)))).sort(), ["fs", "layer.json"]);
  });

  it("takes chain ids only", async () => {
    const store = await openLayerStore(root);
    await assert.rejects(store.stage("sha256:../../etc"), InvalidArgumentError);
    await assert.rejects(store.stage(""), InvalidArgumentError);
  });
});
