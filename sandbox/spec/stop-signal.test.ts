import assert from "node:assert/strict";
import { test } from "node:test";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { containerConfig, image } from "./spec-fixtures.js";
import { criStopSignal, linuxSignal } from "./stop-signal.js";

const { Signal } = runtime.v1;
const effective = (asked: string | number, ofImage = "") =>
  linuxSignal(criStopSignal(containerConfig({ stop_signal: asked }), image({ StopSignal: ofImage })));

test("every Signal of the CRI is one of Linux'", () => {
  const values = Object.entries(Signal).filter(
    ([name, value]) => typeof value === "number" && name !== "SIGNAL_RUNTIME_DEFAULT",
  );
  assert.equal(values.length, 65);
  const numbers = values.map(([, value]) => linuxSignal(Number(value)));
  assert.ok(numbers.every((number) => number >= 1 && number <= 64));
  // 31 classic numbers and 31 real-time ones; SIGCLD, SIGIOT and SIGPOLL are second names
  assert.equal(new Set(numbers).size, 62);
  assert.equal(effective("SIGNAL_SIGRTMIN"), 34);
  assert.equal(effective("SIGNAL_SIGRTMINPLUS15"), 49);
  assert.equal(effective("SIGNAL_SIGRTMAXMINUS14"), 50);
  assert.equal(effective("SIGNAL_SIGRTMAX"), 64);
});

test("the request's, the image's, SIGTERM", () => {
  assert.equal(effective("SIGNAL_SIGINT", "SIGQUIT"), 2);
  assert.equal(effective(0, "SIGQUIT"), 3);
  assert.equal(effective(0, "quit"), 3);
  assert.equal(effective(0, "28"), 28);
  assert.equal(effective(0, "SIGRTMIN+3"), 37);
  assert.equal(effective(0, "RTMAX-2"), 62);
  for (const nonsense of ["", "0", "65", "SIGFOO", "SIGRTMIN-1", "SIGRTMIN+31", "-9"]) {
    assert.equal(effective(0, nonsense), 15, nonsense);
  }
  assert.throws(() => effective(99), /config\.stop_signal: 99/);
});
