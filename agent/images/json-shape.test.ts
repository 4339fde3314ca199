import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { shapeProblem } from "./json-shape.js";

const problemOf = (text: string): string | undefined => shapeProblem(Buffer.from(text));

describe("the shape of JSON", () => {
  it("is not looked for in strings", () => {
    assert.equal(problemOf(JSON.stringify(["[".repeat(1000), '\\"[['.repeat(1000), ",".repeat(100_000)])), undefined);
    assert.equal(problemOf(`{"a":${"[".repeat(60)}${"]".repeat(60)}}`), undefined);
    assert.equal(problemOf(JSON.stringify(Array(40_000).fill(1))), undefined);
  });

  it("has its limits", () => {
    assert.equal(problemOf("[".repeat(65)), "is nested more than 64 deep");
    assert.equal(problemOf(`"\\\\"${'{"a":'.repeat(65)}`), "is nested more than 64 deep");
    assert.equal(problemOf(JSON.stringify(Array(50_001).fill(1))), "has more than 50000 values");
    assert.equal(problemOf(JSON.stringify(Array(30_000).fill({}))), "has more than 50000 values");
  });
});
