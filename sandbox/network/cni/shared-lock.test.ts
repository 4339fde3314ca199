import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { SharedLock } from "./shared-lock.js";

/** Work that notes its begin and its end, and ends when it is told to. */
function work(notes: string[], name: string) {
  let end: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const run = async (): Promise<void> => {
    notes.push(`${name} begins`);
    await ended;
    notes.push(`${name} ends`);
  };
  return { run, end };
}

test("what is alone runs after what came before it, and before what comes after", async () => {
  const lock = new SharedLock();
  const notes: string[] = [];
  const [first, second, alone, later] = [
    work(notes, "first"),
    work(notes, "second"),
    work(notes, "alone"),
    work(notes, "later"),
  ] as const;
  const all = [
    lock.shared(first.run),
    lock.shared(second.run),
    lock.alone(alone.run, 10_000),
    lock.shared(later.run),
  ] as const;
  for (const { end } of [later, alone, second, first]) {
    await turn();
    end();
  }
  await Promise.all(all);
  assert.equal(await all[2], true);
  assert.deepEqual(notes, [
    "first begins",
    "second begins",
    "second ends",
    "first ends",
    "alone begins",
    "alone ends",
    "later begins",
    "later ends",
  ]);
});

test("what is not alone in time does not run, and does not keep what comes after", async () => {
  const lock = new SharedLock();
  const notes: string[] = [];
  const hangs = work(notes, "hangs");
  const hanging = lock.shared(hangs.run);
  const alone = lock.alone(async () => assert.fail(), 20);
  await lock.shared(async () => void notes.push("later"));
  assert.equal(await alone, false);
  assert.deepEqual(notes, ["hangs begins", "later"]);
  hangs.end();
  await hanging;
  assert.equal(await lock.alone(async () => {}, 10_000), true);
});

test("one alone that another did not wait for keeps what comes after all the same", async () => {
  const lock = new SharedLock();
  const notes: string[] = [];
  const first = work(notes, "first");
  const running = lock.alone(first.run, 10_000);
  assert.equal(await lock.alone(async () => assert.fail(), 20), false);
  const later = lock.shared(async () => void notes.push("later"));
  await turn();
  first.end();
  await Promise.all([running, later]);
  assert.deepEqual(notes, ["first begins", "first ends", "later"]);
});

test("what is alone is told when others have waited for it too long, and not before", async () => {
  const lock = new SharedLock(20);
  let hurried = 0;
  const untilHurried = (hurry: AbortSignal) =>
    new Promise<void>((resolve) =>
      hurry.addEventListener("abort", () => {
        hurried++;
        resolve();
      }),
    );
  const first = lock.alone(untilHurried, 10_000);
  const second = lock.alone(async (hurry) => assert.equal(hurry.aborted, false), 10_000);
  await turn();
  assert.equal(hurried, 0);
  assert.equal(await lock.shared(async () => "later"), "later");
  assert.deepEqual([await first, await second, hurried], [true, true, 1]);
});
