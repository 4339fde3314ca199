import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { native } from "../native/binding.js";
import { lockDirectories } from "./lock.js";

test("a directory has one agent, also when the file of its lock was deleted", async () => {
  const base = mkdtempSync(join(tmpdir(), "berth-lock-"));
  const directories = [join(base, "root"), join(base, "run")];
  try {
    const held = await lockDirectories(native, directories);
    await assert.rejects(lockDirectories(native, directories), /another agent works in .*root; give this one/);
    for (const directory of directories) rmSync(join(directory, "lock"));
    await assert.rejects(lockDirectories(native, directories), /another agent works in .*root; give this one/);
    for (const lock of held) native.closeDescriptor(lock);
    for (const lock of await lockDirectories(native, directories)) native.closeDescriptor(lock);
  } finally {
    rmSync(base, { recursive: true });
  }
});
