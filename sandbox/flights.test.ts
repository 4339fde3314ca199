import assert from "node:assert/strict";
import { test } from "node:test";
import { CancelledError } from "./errors.js";
import { checkNotCancelled, Flights } from "./flights.js";

test("callers of one key share one flight, and the next one after it starts anew", async () => {
  const flights = new Flights<number>();
  let runs = 0;
  const run = async () => {
    runs += 1;
    await new Promise(setImmediate);
    return runs;
  };
  assert.deepEqual(await Promise.all([flights.join("a", undefined, run), flights.join("a", undefined, run)]), [1, 1]);
  assert.equal(await flights.join("a", undefined, run), 2);
});

test("the work is told of its callers' leaving when the last of them has gone", async () => {
  const flights = new Flights<string>();
  const first = new AbortController();
  const second = new AbortController();
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const run = async (signal: AbortSignal) => {
    await gate;
    return signal.aborted ? "abandoned" : "wanted";
  };
  const a = flights.join("pod", first.signal, run);
  const b = flights.join("pod", second.signal, run);
  first.abort();
  await assert.rejects(a, CancelledError);
  release();
  assert.equal(await b, "wanted");

  const alone = new AbortController();
  const c = flights.join("pod", alone.signal, async (signal) => {
    await Promise.resolve();
    alone.abort();
    checkNotCancelled(signal, "RunPodSandbox");
    return "never";
  });
  await assert.rejects(c, CancelledError);
});

test("who joins a flight that all others have left has it started again, or gets what came of it all the same", async () => {
  for (const outcome of ["cancelled", "done"]) {
    const flights = new Flights<number>();
    let runs = 0;
    const run = async (signal: AbortSignal) => {
      const number = ++runs;
      await new Promise((resolve) => setTimeout(resolve, 10));
      if (outcome === "cancelled") checkNotCancelled(signal, "RunPodSandbox");
      return number;
    };
    const impatient = new AbortController();
    const first = flights.join("pod", impatient.signal, run).catch(() => 0);
    impatient.abort();
    const second = flights.join("pod", new AbortController().signal, run);
    assert.equal(await second, outcome === "cancelled" ? 2 : 1);
    await first;
  }
});
