import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { copyEntry } from "./copy-tree.js";

test("what is removed from a directory while it is copied is told and left out, and the rest is copied", () => {
  const base = mkdtempSync("/tmp/berth-copy-");
  const source = join(base, "source");
  mkdirSync(source);
  // whatever order the directory has: some files come after a fifo, where they are removed
  const names = Array.from({ length: 20 }, (_, index) => String(index));
  for (const name of names) {
    writeFileSync(join(source, `file-${name}`), name);
    mkdirSync(join(source, `directory-${name}`));
    execFileSync("mkfifo", [join(source, `fifo-${name}`)]);
  }
  const directory = openSync(base, "r");
  const gone: string[] = [];
  const options = {
    owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    skipped: () => {
      for (const name of readdirSync(source)) {
        if (!name.startsWith("fifo")) rmSync(join(source, name), { recursive: true });
      }
    },
    vanished: (path: string) => gone.push(path.slice("shown/".length)),
    tooManyLinks: () => assert.fail(),
  };
  try {
    const place = (name: string) => ({ directory, name: Buffer.from(name) });
    copyEntry(place("source"), place("target"), options, "shown");
    assert.ok(gone.length > 0);
    const all = names.flatMap((name) => [`file-${name}`, `directory-${name}`]);
    assert.deepEqual([...gone, ...readdirSync(join(base, "target"))].sort(), all.sort());
    assert.throws(() => copyEntry(place("no-such"), place("other"), options, "shown"), { code: "ENOENT" });
  } finally {
    closeSync(directory);
    rmSync(base, { recursive: true });
  }
});
