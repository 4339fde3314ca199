import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { native } from "./binding.js";
import { failure } from "./test-support.js";

test("a tree deeper than a path is long goes, with names of any bytes; what a link leads to stays", async () => {
  const base = mkdtempSync(join(tmpdir(), "berth-tree-"));
  const [tree, other] = [join(base, "tree"), join(base, "other")];
  const script = `
    mkdir -p ${tree} ${other}; cd ${tree}
    name=$(printf 'n\\377%0100d' 0)
    mkdir -p .moved-1/of-a-removal-that-was-cut-off
    i=0; while [ $i -lt 150 ]; do mkdir "$name" side; echo x > file; ln -s ${other} link; cd -P "./$name"; i=$((i + 1)); done`;
  execFileSync("sh", ["-c", script]);
  writeFileSync(join(other, "kept"), "");
  symlinkSync(other, join(tree, "at-top"));
  await native.removeTree(tree);
  assert.ok(!existsSync(tree));
  assert.ok(existsSync(join(other, "kept")));
  await native.removeTree(tree);
  await native.removeTree(base);
});

test("what is mounted in a tree stays, and the rest goes", async () => {
  const base = mkdtempSync(join(tmpdir(), "berth-tree-"));
  const [tree, other] = [join(base, "tree"), join(base, "other")];
  for (const path of [join(tree, "a/mounted"), join(tree, "z/deep"), other]) mkdirSync(path, { recursive: true });
  writeFileSync(join(other, "kept"), "");
  const fd = await native.openTree({ path: other, recursive: false });
  await native.attachMount(fd, join(tree, "a/mounted"));
  native.closeDescriptor(fd);
  try {
    assert.equal((await failure(() => native.removeTree(tree))).errnoName, "EXDEV");
    assert.deepEqual(readdirSync(tree), ["a"]);
    assert.ok(existsSync(join(other, "kept")));
  } finally {
    await native.unmount(join(tree, "a/mounted"));
  }
  await native.removeTree(base);
  assert.ok(!existsSync(base));
});
