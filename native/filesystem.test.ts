import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { isSystemError, native } from "./binding.js";
import { openDescriptors } from "./test-support.js";

let directory: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "berth-filesystem-"));
});
after(() => rm(directory, { recursive: true, force: true }));

test("syncFileSystem takes files and directories, says what it cannot open, and leaves no descriptor", async () => {
  await writeFile(join(directory, "file"), "x");
  await symlink("file", join(directory, "link"));
  const before = openDescriptors();
  await native.syncFileSystem(directory);
  await native.syncFileSystem(join(directory, "file"));
  for (const name of ["gone", "link"]) {
    await assert.rejects(native.syncFileSystem(join(directory, name)), (error) => {
      assert.ok(isSystemError(error));
      assert.equal(error.subject, join(directory, name));
      return true;
    });
  }
  assert.equal(openDescriptors(), before);
});

test("spreadSubdirectories marks a directory of ext4, and is content with one that cannot be marked", () => {
  const flags = () => execFileSync("lsattr", ["-d", directory], { encoding: "utf8" }).split(" ")[0] ?? "";
  const type = execFileSync("stat", ["-f", "-c", "%T", directory], { encoding: "utf8" }).trim();
  for (let i = 0; i < 2; i++) native.spreadSubdirectories(directory);
  if (type === "ext2/ext3") assert.ok(flags().includes("T"), flags());
  // tmpfs knows flags, but not this one; proc knows none
  native.spreadSubdirectories("/dev/shm");
  native.spreadSubdirectories("/proc/1");
  assert.throws(() => native.spreadSubdirectories(join(directory, "gone")), isSystemError);
});
