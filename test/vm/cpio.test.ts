import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { cpio } from "./cpio.js";

test("an archive is what cpio reads", () => {
  const archive = cpio([
    { path: "bin", mode: 0o040755 },
    { path: "bin/one", mode: 0o100755, content: Buffer.from("1\n") },
    { path: "five", mode: 0o100600, content: Buffer.from("12345") },
  ]);
  assert.equal(archive.length % 4, 0);
  assert.equal(archive.toString("latin1", 0, 14), "07070100000001");
  const listed = execFileSync("busybox", ["cpio", "-t", "-v"], { input: archive, encoding: "utf8", stdio: "pipe" });
  const lines = listed.trim().split("\n");
  assert.match(lines[0] ?? "", /^drwxr-xr-x .* bin$/);
  assert.match(lines[1] ?? "", /^-rwxr-xr-x .* 2 .* bin\/one$/);
  assert.match(lines[2] ?? "", /^-rw------- .* 5 .* five$/);
});
