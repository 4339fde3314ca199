import assert from "node:assert/strict";
import { test } from "node:test";
import { stepsOf } from "./image-history.js";

const layers = [1, 2, 3].map((n) => ({ chainID: `c${n}`, diffID: `d${n}`, bytes: n, inodes: 1 }));
const nothing = { created: "", created_by: "", comment: "" };

test("each step that made a layer has that layer's size, the last one comes first", () => {
  const history = [
    { created: "2026-01-01T00:00:00Z", created_by: "ADD rootfs" },
    { created_by: "ENV A=b", empty_layer: true },
    { created_by: "COPY a b", comment: "why" },
    { created_by: "RUN make" },
  ];
  assert.deepEqual(stepsOf({ imageSpec: { history }, layers }), [
    { ...nothing, created_by: "RUN make", bytes: 3 },
    { ...nothing, created_by: "COPY a b", comment: "why", bytes: 2 },
    { ...nothing, created_by: "ENV A=b", bytes: 0 },
    { ...nothing, created: "2026-01-01T00:00:00Z", created_by: "ADD rootfs", bytes: 1 },
  ]);
});

test("layers and history need not fit", () => {
  assert.deepEqual(
    stepsOf({ imageSpec: {}, layers }).map(({ bytes }) => bytes),
    [3, 2, 1],
  );
  assert.deepEqual(
    stepsOf({ imageSpec: { history: [{}, {}] }, layers: layers.slice(0, 1) }).map(({ bytes }) => bytes),
    [0, 1],
  );
});
