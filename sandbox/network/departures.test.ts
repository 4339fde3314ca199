import assert from "node:assert/strict";
import { test } from "node:test";
import { Departures } from "./departures.js";

test("whoever needs a port waits for an interface that goes, when there is one", async () => {
  const departures = new Departures({ deleteLink: () => Promise.resolve() }, () => undefined);
  assert.equal(await departures.oneGoes(10_000), false);
  let gone = 0;
  // one that stays
  await departures.add("lo", "pod", () => gone++);
  assert.equal(await departures.oneGoes(1), false);
  const waiting = departures.oneGoes(10_000);
  departures.gone("lo");
  assert.equal(await waiting, true);
  assert.equal(gone, 1);
});
