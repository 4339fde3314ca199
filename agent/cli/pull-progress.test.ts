import assert from "node:assert/strict";
import { test } from "node:test";
import Long from "long";
import { berth } from "../../cri-proto/generated/admin.js";
import { barLines, Meter, openPullView, type ShownLayer } from "./pull-progress.js";

const { LayerState } = berth.v1;

function shown(more: Partial<ShownLayer> = {}): ShownLayer {
  return {
    name: "0123456789ab",
    state: LayerState.LAYER_DOWNLOADING,
    bytes: 5_000_000,
    totalBytes: 10_000_000,
    bytesPerSecond: 2_500_000,
    ...more,
  };
}

test("a layer has a bar, its bytes and its rate; the last line has all together", () => {
  assert.deepEqual(barLines([shown(), shown({ state: LayerState.LAYER_EXISTS })], 80, 24), [
    `0123456789ab  [${"#".repeat(18)}${"-".repeat(19)}]  5.0 of 10.0 MB, 2.5 MB/s`,
    `0123456789ab  [${"#".repeat(40)}]  is here already`,
    "1 of 2 layers, 5.0 of 10.0 MB, 2.5 MB/s",
  ]);
});

test("no line is as wide as the terminal, however narrow that is", () => {
  for (const columns of [20, 40, 60, 80, 200]) {
    const states = [0, 1, 2, 3, 4] as berth.v1.LayerState[];
    for (const line of barLines(
      states.map((state) => shown({ state })),
      columns,
      24,
    )) {
      assert.ok(line.length < columns, `${columns}: ${line}`);
    }
  }
});

test("more layers than the terminal has rows: those that are under way, and the sum of all", () => {
  const layers = Array.from({ length: 30 }, (_, n) =>
    shown({ name: `layer-${n}`, state: n < 20 ? LayerState.LAYER_COMPLETE : LayerState.LAYER_DOWNLOADING }),
  );
  const lines = barLines(layers, 80, 10);
  assert.equal(lines.length, 9);
  assert.match(lines[0] ?? "", /^layer-20 /);
  assert.match(lines.at(-1) ?? "", /^20 of 30 layers/);
});

test("on a terminal each view replaces the one before it, and nothing of it stays", () => {
  let screen = "";
  const view = openPullView({ isTTY: true, columns: 80, rows: 24, write: (text) => (screen += text) });
  const layer = { digest: "sha256:0123456789abcdef", total_bytes: Long.fromNumber(10, true), state: 2 };
  view.show([layer]);
  assert.equal(screen.split("\n").length, 3);
  assert.ok(!screen.includes("\x1b"));
  screen = "";
  view.show([layer]);
  assert.ok(screen.startsWith("\x1b[2A\x1b[J"));
  screen = "";
  view.end();
  assert.equal(screen, "\x1b[2A\x1b[J");
});

test("a rate is that of the last second", () => {
  const meter = new Meter();
  assert.equal(meter.rate(0, 0), 0);
  assert.equal(meter.rate(500, 500), 1000);
  assert.equal(meter.rate(500, 1400), 0);
});
