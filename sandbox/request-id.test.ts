import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { currentRequestId, withRequestId } from "./request-id.js";

test("work knows which request it is for, also after it has waited, and others beside it do not", async () => {
  const seen = async () => {
    await sleep(1);
    return currentRequestId();
  };
  assert.equal(currentRequestId(), undefined);
  const both = [withRequestId("one", seen), withRequestId("two", seen), seen()];
  assert.deepEqual(await Promise.all(both), ["one", "two", undefined]);
  assert.equal(currentRequestId(), undefined);
});

test("the first that ends takes nothing from one that still runs", async () => {
  let go = (): void => undefined;
  const waits = new Promise<void>((resolve) => {
    go = resolve;
  });
  const slow = withRequestId("slow", async () => {
    await waits;
    return currentRequestId();
  });
  await assert.rejects(
    withRequestId("fails", () => Promise.reject(new Error("planted"))),
    /planted/,
  );
  go();
  assert.equal(await slow, "slow");
});
