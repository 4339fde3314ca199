import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openStorageDriver } from "./open.js";

const roots: string[] = [];
after(() => Promise.all(roots.map((root) => rm(root, { recursive: true }))));

async function makeRoot(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "berth-driver-"));
  roots.push(root);
  return root;
}

test("a store remembers its driver", async () => {
  const root = await makeRoot();
  assert.equal((await openStorageDriver("overlay", root)).name, "overlay");
  assert.equal(await readFile(join(root, "storage-driver"), "utf8"), "overlay\n");
});

test("one with another driver's layers or containers is refused, an empty one is not", async () => {
  for (const directory of ["layers", "containers"]) {
    const root = await makeRoot();
    await writeFile(join(root, "storage-driver"), "copy\n");
    await mkdir(join(root, directory, "something"), { recursive: true });
    await assert.rejects(openStorageDriver("overlay", root), {
      kind: "FAILED_PRECONDITION",
      message: /^storage-driver overlay: the layers and containers in .* are of the driver copy; start with/,
    });
    await rm(join(root, directory, "something"), { recursive: true });
    assert.equal((await openStorageDriver("overlay", root)).name, "overlay");
  }
});

test("a store from before there was a choice is overlay's", async () => {
  const root = await makeRoot();
  await mkdir(join(root, "layers", "something"), { recursive: true });
  assert.equal((await openStorageDriver("overlay", root)).name, "overlay");
});
