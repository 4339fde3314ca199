import assert from "node:assert/strict";
import { test } from "node:test";
import { diskUsageOf } from "./disk-usage.js";
import type { ImageRecord } from "./image-store.js";

test("a shared layer is all images' and no image's own, one that nobody has is nobody's", () => {
  const layer = (chainId: string, bytes: number) => ({ chainId, diffId: chainId, bytes, inodes: 1 });
  const image = (id: string, layers: string[]) => ({ id, layers }) as ImageRecord;
  const usage = diskUsageOf(
    // the chain id of an image that has the same layer twice does not repeat; a layer may
    [image("one", ["base", "a"]), image("two", ["base", "b", "b"]), image("none", [])],
    [layer("base", 100), layer("a", 10), layer("b", 1), layer("left", 1000)],
  );
  assert.deepEqual(
    usage.images.map(({ image, bytes, uniqueBytes }) => [image.id, bytes, uniqueBytes]),
    [
      ["one", 110, 10],
      ["two", 101, 1],
      ["none", 0, 0],
    ],
  );
  assert.deepEqual(
    usage.layers.map(({ layer, images }) => [layer.chainId, images]),
    [
      ["base", ["one", "two"]],
      ["a", ["one"]],
      ["b", ["two"]],
      ["left", []],
    ],
  );
});
