import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { native } from "./binding.js";

/** kB of files that are mapped into this process and present */
function residentOfFiles(): number {
  return Number(/^RssFile:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
}

/** Node with all of its own code that a test needs */
function work(): string {
  return JSON.stringify(
    Array.from({ length: 1_000 }, (_, i) => [`${i}`.padStart(5), i / 3, new Date(i).toISOString()]),
  );
}

test("of Node's executable only what runs stays mapped, and everything works as before", async () => {
  const result = work();
  const before = residentOfFiles();
  // what runs for the first time meanwhile comes back at once
  for (const _again of [1, 2]) await native.releaseUnusedMemory();
  const after = residentOfFiles();
  assert.ok(after < before / 2, `${before} kB of files before, ${after} kB after`);
  assert.equal(work(), result);
  // again, and with calls on the way
  const calls = Array.from({ length: 8 }, () => native.releaseUnusedMemory());
  assert.equal(work(), result);
  await Promise.all(calls);
});
