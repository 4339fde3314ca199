import assert from "node:assert/strict";
import { test } from "node:test";
import { Latch } from "./latch.js";

test("a latch wakes all who wait, and those who come later do not wait", async () => {
  const latch = new Latch();
  const waiters = [latch.wait(Number.POSITIVE_INFINITY), latch.wait(10_000)];
  latch.open();
  assert.deepEqual(await Promise.all(waiters), [true, true]);
  assert.equal(await latch.wait(0), true);
});

test("waiting ends at its time or when it is aborted", async () => {
  const latch = new Latch();
  assert.equal(await latch.wait(5), false);
  assert.equal(await latch.wait(0), false);
  const abort = new AbortController();
  const waiter = latch.wait(Number.POSITIVE_INFINITY, abort.signal);
  abort.abort();
  assert.equal(await waiter, false);
});
