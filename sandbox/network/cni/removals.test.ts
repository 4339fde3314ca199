import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { NetworkLease } from "../provider.js";
import { type Removal, Removals } from "./removals.js";

const lease = {} as NetworkLease;
const removal = (podId: string) => ({ podId, netnsPath: "/run/netns/x", lease });

function directory(t: TestContext): string {
  const path = join(mkdtempSync(join(tmpdir(), "berth-removals-")), "later");
  t.after(() => rmSync(join(path, ".."), { recursive: true }));
  return path;
}

/** An agent's removals; `results` are its attempts' outcomes, an error or nothing, in order. */
function agent(path: string, results: (Error | undefined)[]) {
  const tried: string[] = [];
  const failures: string[] = [];
  const removals = new Removals({
    check: () => undefined,
    directory: path,
    remove: async ({ podId }: Removal) => {
      tried.push(podId);
      const result = results.shift();
      if (result !== undefined) throw result;
    },
    onFailure: ({ podId, attempts, error }) => failures.push(`${podId} ${attempts} ${error}`),
  });
  return { removals, tried, failures };
}

test("what succeeds is forgotten", async (t) => {
  const path = directory(t);
  const { removals, tried } = agent(path, [undefined]);
  await removals.add(removal("a"), 1_000);
  assert.deepEqual([tried, removals.list(), readdirSync(path)], [["a"], [], []]);
});

test("what fails is kept, told, and tried again by itself", async (t) => {
  const path = directory(t);
  const { removals, failures } = agent(path, [new Error("no"), undefined]);
  await removals.add(removal("a"), 1_000);
  assert.deepEqual(failures, ["a 1 no"]);
  assert.deepEqual(readdirSync(path), ["a.json"]);
  const until = Date.now() + 10_000;
  // its timer does not keep a process
  while (removals.list().length > 0 && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual([removals.list(), readdirSync(path)], [[], []]);
});

test("the next agent goes on with it; added twice it is one", async (t) => {
  const path = directory(t);
  const first = agent(path, [new Error("no"), new Error("no")]);
  await first.removals.add(removal("a"), 1_000);
  await first.removals.add(removal("a"), 1_000);
  assert.equal(first.removals.list().length, 1);
  writeFileSync(join(path, "b.json.new"), "{");
  writeFileSync(join(path, "c.json"), "{");
  const broken: string[] = [];
  const next = agent(path, [undefined]);
  next.removals.read((file) => broken.push(file));
  await next.removals.retry();
  assert.deepEqual([next.tried, next.removals.list()], [["a"], []]);
  assert.deepEqual([broken, readdirSync(path)], [[join(path, "c.json")], ["c.json"]]);
  // the first agent's timer still runs: there is nothing more to do for it
  await first.removals.retry();
});

test("one that is added at the very moment that an earlier one of the pod ends is done, too", async (t) => {
  const path = directory(t);
  // as two native calls do that end in the same turn of the event loop: their steps alternate
  for (let steps = 0; steps < 10; steps++) {
    let finish: () => void = () => undefined;
    const first = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const results = [first, undefined];
    const removals = new Removals({
      check: () => undefined,
      directory: path,
      remove: async () => results.shift(),
      onFailure: () => assert.fail(),
    });
    const ended = removals.add(removal("a"), 10_000);
    finish();
    for (let step = 0; step < steps; step++) await undefined;
    await removals.add(removal("a"), 10_000);
    await ended;
    assert.deepEqual([removals.list(), readdirSync(path)], [[], []], `${steps} steps later`);
  }
});

test("one that hangs is waited for no longer than was said", async (t) => {
  let finish: () => void = () => undefined;
  const removals = new Removals({
    check: () => undefined,
    directory: directory(t),
    remove: () =>
      new Promise((resolve) => {
        finish = resolve;
      }),
    onFailure: () => assert.fail(),
  });
  await removals.add(removal("a"), 20);
  assert.equal(removals.list().length, 1);
  const again = removals.retry();
  finish();
  await again;
  assert.deepEqual(removals.list(), []);
});

test("a retry while one is being tried tries it once more: what kept it may have been mended since it began", async (t) => {
  let fail: (error: Error) => void = () => undefined;
  const first = new Promise<undefined>((_, reject) => {
    fail = reject;
  });
  const results = [first, undefined];
  const removals = new Removals({
    check: () => undefined,
    directory: directory(t),
    remove: async () => results.shift(),
    onFailure: () => undefined,
  });
  await removals.add(removal("a"), 20);
  const again = removals.retry();
  fail(new Error("the mistake was read before it was mended"));
  await again;
  assert.deepEqual([results, removals.list()], [[], []]);
});
