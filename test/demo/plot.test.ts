import assert from "node:assert/strict";
import { test } from "node:test";
import { plot } from "./plot.js";

const options = { limit: 100, columns: 4, rows: 2, format: String };

test("each column shows the last value known at its end", () => {
  const samples = [
    { seconds: 0, value: 0 },
    { seconds: 1, value: 25 },
    { seconds: 2, value: 50 },
    { seconds: 3.5, value: 75 },
    { seconds: 4, value: 100 },
  ];
  assert.deepEqual(plot(samples, options), ["100 ┤┄┄┄┄ limit", "    │   █", "    │▄███", "  0 └────", "     0 s4.0 s"]);
});

test("what is over the limit is drawn at the limit", () => {
  const lines = plot([{ seconds: 1, value: 250 }], { ...options, columns: 2 });
  assert.deepEqual(lines.slice(1, 3), ["    │ █", "    │ █"]);
});

test("no samples make an empty plot", () => {
  assert.deepEqual(plot([], options).slice(1, 3), ["    │", "    │"]);
});
