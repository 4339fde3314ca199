import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { makeDirectories } from "./directories.js";

const base = mkdtempSync("/tmp/berth-directories-");
after(() => rmSync(base, { recursive: true }));

test("directories are made with those above them, and the outermost is told", () => {
  assert.equal(makeDirectories(join(base, "a", "b", "c"), 0o700), join(base, "a"));
  assert.equal(statSync(join(base, "a", "b", "c")).mode & 0o777, 0o700);
  assert.equal(makeDirectories(join(base, "a", "d"), 0o700), join(base, "a", "d"));
  assert.equal(makeDirectories(join(base, "a"), 0o700), undefined);
});

test("a link to a directory is one, and what is no directory is an error", () => {
  symlinkSync("a", join(base, "link"));
  symlinkSync("nowhere", join(base, "dangling"));
  writeFileSync(join(base, "file"), "");
  assert.equal(makeDirectories(join(base, "link"), 0o700), undefined);
  assert.equal(makeDirectories(join(base, "link", "e"), 0o700), join(base, "link", "e"));
  assert.throws(() => makeDirectories(join(base, "file"), 0o700), { code: "EEXIST" });
  assert.throws(() => makeDirectories(join(base, "file", "x"), 0o700), { code: "ENOTDIR" });
  assert.throws(() => makeDirectories(join(base, "dangling"), 0o700), { code: "EEXIST" });
  assert.throws(() => makeDirectories(join(base, "dangling", "x"), 0o700), { code: "ENOENT" });
});

// Node's mkdir with `recursive` never comes back from these
test("where the kernel makes no directories, it is said", () => {
  assert.throws(() => makeDirectories("/proc/self/nothing", 0o700), { code: "ENOENT" });
  assert.throws(() => makeDirectories("/proc/nothing/below/it", 0o700), { code: "ENOENT" });
});
