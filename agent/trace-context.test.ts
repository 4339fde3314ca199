import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata } from "@grpc/grpc-js";
import { traceParent } from "./trace-context.js";

const trace = "4bf92f3577b34da6a3ce929d0e0e4736";

function of(header: string) {
  const metadata = new Metadata();
  metadata.set("traceparent", header);
  return traceParent(metadata);
}

test("a trace is known by the caller's traceparent, and whether somebody records it", () => {
  const parent = { traceId: trace, spanId: "00f067aa0ba902b7" };
  assert.deepEqual(of(`00-${trace}-00f067aa0ba902b7-01`), { ...parent, recorded: true });
  assert.deepEqual(of(`cc-${trace}-00f067aa0ba902b7-03-what-comes-later`), { ...parent, recorded: true });
  assert.deepEqual(of(`00-${trace}-00f067aa0ba902b7-00`), { ...parent, recorded: false });
});

test("what is no traceparent is not told of", () => {
  const none = [
    `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
    `00-${trace}-0000000000000000-01`,
    `ff-${trace}-00f067aa0ba902b7-01`,
    `00-${trace.toUpperCase()}-00f067aa0ba902b7-01`,
    `00-${trace}-00f067aa0ba902b7`,
    `00-${trace}-00f067aa0ba902b7-01"}`,
    "",
  ];
  for (const header of none) assert.equal(of(header), undefined, header);
  assert.equal(traceParent(new Metadata()), undefined);
});
