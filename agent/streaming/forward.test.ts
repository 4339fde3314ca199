import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Forwards } from "./forward.js";

test("connections that were given up before their turn came are not made", async () => {
  const client = { hasRoom: true, pause: () => undefined, resume: () => undefined };
  const connecting: ((error: Error) => void)[] = [];
  const forwards = new Forwards(client, () => new Promise((_, reject) => connecting.push(reject)));
  const told: string[] = [];
  const open = () => forwards.open({ write: () => undefined, end: () => undefined }, (problem) => told.push(problem));
  const all = Array.from({ length: 2_000 }, open);
  for (const forward of all) forwards.connect(forward, 80);
  await turn();
  const atOnce = connecting.length;
  assert.ok(atOnce > 0 && atOnce < 100, `${atOnce} at once`);
  forwards.dropAll();
  const wanted = open();
  forwards.connect(wanted, 80);
  for (const fail of [...connecting]) fail(new Error("nobody accepts"));
  await turn();
  // that of the one who waits is the only one that came after them
  assert.equal(connecting.length, atOnce + 1);
  connecting.at(-1)?.(new Error("nobody accepts, either"));
  await turn();
  assert.deepEqual(told, ["nobody accepts, either"]);
});

for (const pieceBytes of [1, 60_000]) {
  test(`what waits for connections that are not there yet is bounded, in pieces of ${pieceBytes} bytes, too`, async () => {
    let paused = false;
    const client = {
      hasRoom: true,
      pause: () => {
        paused = true;
      },
      resume: () => {
        paused = false;
      },
    };
    const forwards = new Forwards(client, () => new Promise(() => undefined));
    const outlet = { write: () => undefined, end: () => undefined };
    const all = Array.from({ length: 2_000 }, () => forwards.open(outlet, () => undefined));
    for (const forward of all) forwards.connect(forward, 80);
    let pieces = 0;
    // a little less than one alone may have
    for (let round = 0; round < (pieceBytes === 1 ? 100 : 1) && !paused; round++) {
      for (const forward of all) {
        if (paused) break;
        forward.write(Buffer.alloc(pieceBytes));
        pieces++;
      }
    }
    assert.ok(paused, `${pieces} pieces were taken`);
    assert.ok(pieces < 10_000 && pieces * pieceBytes < 2 << 20, `${pieces} pieces were taken`);
    for (const forward of all) forwards.drop(forward);
    assert.equal(paused, false);
    const another = forwards.open(outlet, () => undefined);
    another.write(Buffer.alloc(1_000));
    assert.equal(paused, false);
  });
}
