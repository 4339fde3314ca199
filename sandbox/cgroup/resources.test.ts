import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { checkResources, checkUnifiedName, decimal, orMax, sharesToWeight, swapOnly } from "./resources.js";

describe("sharesToWeight", () => {
  for (const [shares, weight] of [
    [0, 1],
    [2, 1],
    [1024, 100],
    [262_144, 10_000],
    [9_999_999, 10_000],
    [102, 17],
    [2048, 174],
  ] as const) {
    it(`makes ${weight} of ${shares}`, () => assert.equal(sharesToWeight(shares), weight));
  }

  it("never falls", () => {
    let before = 0;
    for (let shares = 2; shares <= 262_144; shares += 97) {
      const weight = sharesToWeight(shares);
      assert.ok(weight >= before && weight >= 1 && weight <= 10_000);
      before = weight;
    }
  });
});

describe("swapOnly", () => {
  it("takes the memory limit off", () => assert.equal(swapOnly({ swap: 300, limit: 100 }), 200));
  it("is none when both are the same", () => assert.equal(swapOnly({ swap: 100, limit: 100 }), 0));
  it("is unlimited with unlimited memory", () => assert.equal(swapOnly({ swap: undefined, limit: -1 }), -1));
  it("says nothing when nothing is said", () => assert.equal(swapOnly({ swap: undefined, limit: 100 }), undefined));
  it("is as given without a memory limit", () => assert.equal(swapOnly({ swap: 50, limit: undefined }), 50));
  it("refuses less than the memory limit", () => {
    assert.throws(() => swapOnly({ swap: 50, limit: 100 }), /memory_swap_limit_in_bytes 50 is less than/);
  });
});

describe("numbers in files", () => {
  it("have no exponent", () => {
    assert.equal(decimal(2 ** 63), "9223372036854775808");
    assert.equal(decimal(1e21), "1000000000000000000000");
    assert.equal(orMax(-1), "max");
  });
});

describe("checkResources", () => {
  it("names the controller that each field needs", () => {
    const needs = checkResources({
      cpu: { shares: 2, cpus: "0" },
      memory: { limit: 1 << 20 },
      hugepageLimits: [
        { pageSize: "2MB", limit: 0 },
        { pageSize: "1GB", limit: 1 },
      ],
      unified: { "memory.high": "max" },
    });
    assert.deepEqual(needs, [
      { field: "cpu_shares", controller: "cpu" },
      { field: "memory_limit_in_bytes", controller: "memory" },
      { field: "cpuset_cpus", controller: "cpuset" },
      { field: "hugepage_limits 1GB", controller: "hugetlb" },
      { field: 'unified "memory.high"', controller: "memory", unified: true },
    ]);
  });

  it("refuses less memory than a page", () => {
    assert.throws(() => checkResources({ memory: { limit: 1000 } }), /memory_limit_in_bytes 1000 is less than a page/);
  });

  for (const name of ["cgroup.procs", "../x", "memory", "memory/high", "a/b.c", ""]) {
    it(`refuses the unified name "${name}"`, () => assert.throws(() => checkUnifiedName(name), InvalidArgumentError));
  }
});
