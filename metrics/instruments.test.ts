import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { families } from "./families.js";
import { berthInstruments, type Instrument, processInstruments } from "./instruments.js";

const all: Instrument[] = [...families, ...Object.values(berthInstruments), ...Object.values(processInstruments)];

describe("instruments", () => {
  it("have names that Prometheus takes, and say what they are", () => {
    for (const { name, help, labels } of all) {
      assert.match(name, /^(container|berth|process|nodejs)_[a-z0-9_]+$/);
      assert.ok(help.length > 5, name);
      for (const label of labels) assert.match(label, /^[a-z_]+$/);
    }
  });

  it("have names of their own", () => {
    assert.equal(new Set(all.map(({ name }) => name)).size, all.length);
  });

  it("end with _total when they count, but for the names that cAdvisor has given", () => {
    const cadvisors = ["container_memory_failcnt", "container_hugetlb_failcnt", "container_fs_inodes_total"];
    for (const { name, type } of all) {
      if (!cadvisors.includes(name)) assert.equal(name.endsWith("_total"), type === "counter", name);
    }
  });
});
