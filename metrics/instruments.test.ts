import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  berthInstruments,
  cgroupInstruments,
  type Instrument,
  networkInstruments,
  processInstruments,
  recordInstruments,
} from "./instruments.js";

const all: Instrument[] = [
  ...cgroupInstruments,
  ...networkInstruments,
  ...Object.values(recordInstruments),
  ...Object.values(berthInstruments),
  ...Object.values(processInstruments),
];

describe("instruments", () => {
  it("have names that Prometheus takes, and say what they are", () => {
    for (const { name, help, labels } of all) {
      assert.match(name, /^(container|berth|process|nodejs)_[a-z0-9_]+$/);
      assert.ok(help.length > 5, name);
      for (const label of labels) assert.match(label, /^[a-z_]+$/);
    }
  });

  it("of one name have one type, help and set of labels", () => {
    const seen = new Map<string, Instrument>();
    for (const instrument of all) {
      const before = seen.get(instrument.name) ?? instrument;
      const { type, help, labels } = instrument;
      assert.deepEqual({ type, help, labels }, { type: before.type, help: before.help, labels: before.labels });
      seen.set(instrument.name, instrument);
    }
  });

  it("end with _total when they count, but for the names that cAdvisor has given", () => {
    for (const { name, type } of all) {
      if (name !== "container_memory_failcnt") assert.equal(name.endsWith("_total"), type === "counter", name);
    }
  });
});
