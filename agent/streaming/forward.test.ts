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
