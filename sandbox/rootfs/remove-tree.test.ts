import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { removeTree } from "./remove-tree.js";

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
  await removeTree(tree);
  assert.ok(!existsSync(tree));
  assert.ok(existsSync(join(other, "kept")));
  await removeTree(tree);
  await removeTree(base);
});
