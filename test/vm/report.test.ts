import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestRecord } from "./guest/records.js";
import { createReport } from "./report.js";

const file = "/berth/dist/test/integration/pod.test.js";
const passed: TestRecord = { type: "test", file, name: ["pod", "runs"], result: "passed", durationMs: 12.4 };
const quiet = { ended: true, problem: undefined, running: undefined };
const stopped = { ended: false, problem: undefined, running: file };

function reported(): { report: ReturnType<typeof createReport>; text: () => string } {
  const lines: string[] = [];
  return { report: createReport("/berth", (line) => lines.push(line)), text: () => lines.join("\n") };
}

test("counts every kind and repeats skips with their reasons", () => {
  const { report, text } = reported();
  report.add(passed);
  report.add({ ...passed, result: "skipped", reason: "no nft" });
  assert.equal(report.finish([quiet], 5000), true);
  assert.match(text(), /^ok {6}test\/integration\/pod\.test\.js > pod > runs \(12 ms\)$/m);
  assert.match(text(), /^skipped:\n {2}test\/integration\/pod\.test\.js > pod > runs: no nft$/m);
  assert.match(text(), /\n1 passed, 0 failed, 1 skipped$/);
});

test("a failure shows its error and what its file printed", () => {
  const { report, text } = reported();
  report.add({ type: "output", file, text: "agent: boom\n" });
  report.add({ ...passed, result: "failed", error: "expected 1\nactual 2" });
  assert.equal(report.finish([quiet], 5000), false);
  assert.match(text(), /^ {6}actual 2$/m);
  assert.match(text(), /output of test\/integration\/pod\.test\.js:\n {6}agent: boom/);
  assert.match(text(), /\n0 passed, 1 failed, 0 skipped$/);
});

test("a guest that stops early, says nothing or had to be killed is no success", () => {
  const early = reported();
  early.report.add(passed);
  assert.equal(early.report.finish([quiet, stopped], 5000), false);
  assert.match(early.text(), /a guest ended before its tests did, in test\/integration\/pod\.test\.js: it powered off/);
  assert.match(early.text(), /\n1 passed, 1 failed, 0 skipped$/);
  const silent = reported();
  assert.equal(silent.report.finish([quiet], 5000), false);
  const killed = reported();
  killed.report.add(passed);
  assert.equal(killed.report.finish([{ ...quiet, problem: "not through after 60 s: killed" }], 1), false);
});
