import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { recordedTrace } from "./trace-context.js";

const trace = "4bf92f3577b34da6a3ce929d0e0e4736";

function of(header: string): string | undefined {
  const metadata = new Metadata();
  metadata.set("traceparent", header);
  return recordedTrace(metadata);
}

test("a recorded trace is known by the caller's traceparent", () => {
  assert.equal(of(`00-${trace}-00f067aa0ba902b7-01`), trace);
  assert.equal(of(`cc-${trace}-00f067aa0ba902b7-03-what-comes-later`), trace);
});

test("one that nobody records, or that is none, is not told of", () => {
  const none = [
    `00-${trace}-00f067aa0ba902b7-00`,
    `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
    `00-${trace}-0000000000000000-01`,
    `ff-${trace}-00f067aa0ba902b7-01`,
    `00-${trace.toUpperCase()}-00f067aa0ba902b7-01`,
    `00-${trace}-00f067aa0ba902b7`,
    `00-${trace}-00f067aa0ba902b7-01"}`,
    "",
  ];
  for (const header of none) assert.equal(of(header), undefined, header);
  assert.equal(recordedTrace(new Metadata()), undefined);
});
