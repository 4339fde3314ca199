import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { DownloadSlots } from "./download-slots.js";

const never = new AbortController().signal;

/** Downloads that end when they are told. */
function downloads(slots: DownloadSlots) {
  const running: string[] = [];
  const ends = new Map<string, () => void>();
  const start = (name: string, registry = "r", signal: AbortSignal = never): Promise<void> => {
    const open = async function* (): AsyncGenerator<string> {
      running.push(name);
      yield name;
      await new Promise<void>((resolve) => ends.set(name, resolve));
    };
    return (async () => {
      for await (const _ of slots.holding(registry, signal, open)) {
        // nothing is done with it
      }
    })();
  };
  const end = async (name: string): Promise<void> => {
    ends.get(name)?.();
    await settled();
  };
  return { running, start, end };
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await nextTurn();
}

describe("the slots of a registry", () => {
  it("are given in their order, and those of one registry are not another's", async () => {
    const { running, start, end } = downloads(new DownloadSlots(2));
    const all = [start("a"), start("b"), start("c"), start("d"), start("e", "other")];
    await settled();
    assert.deepEqual(running, ["a", "b", "e"]);
    await end("b");
    assert.deepEqual(running, ["a", "b", "e", "c"]);
    await end("a");
    assert.deepEqual(running, ["a", "b", "e", "c", "d"]);
    for (const name of ["c", "d", "e"]) await end(name);
    await Promise.all(all);
  });

  it("are given back by what fails or is left, and cost who is cancelled nothing", async () => {
    const slots = new DownloadSlots(1);
    const { running, start, end } = downloads(slots);
    const failing = async function* (): AsyncGenerator<string> {
      yield "one";
      throw new Error("broken");
    };
    await assert.rejects(async () => {
      for await (const _ of slots.holding("r", never, failing));
    }, /broken/);
    for await (const _ of slots.holding("r", never, failing)) break;
    const first = start("a");
    const abort = new AbortController();
    const cancelled = start("b", "r", abort.signal);
    const last = start("c");
    await settled();
    abort.abort();
    await assert.rejects(cancelled, { kind: "CANCELLED" });
    assert.deepEqual(running, ["a"]);
    await end("a");
    assert.deepEqual(running, ["a", "c"]);
    await end("c");
    await Promise.all([first, last]);
  });

  it("are not waited for for ever", async () => {
    const { running, start, end } = downloads(new DownloadSlots(1, 10));
    const all = [start("a"), start("b")];
    while (running.length < 2) await nextTurn();
    await end("a");
    await end("b");
    await Promise.all(all);
  });
});
