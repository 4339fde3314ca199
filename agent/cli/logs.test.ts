import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSince } from "./logs.js";

test("--since is a duration before now, or a time, written as in a log", () => {
  const now = Date.parse("2026-01-02T03:04:05.678Z");
  assert.equal(parseSince("5m", now), "2026-01-02T02:59:05.678000000Z");
  assert.equal(parseSince("1d", now), "2026-01-01T03:04:05.678000000Z");
  assert.equal(parseSince("1h30m0.5s", now), "2026-01-02T01:34:05.178000000Z");
  assert.equal(parseSince("250ms", now), "2026-01-02T03:04:05.428000000Z");
  assert.equal(parseSince("99999999d", now), "1970-01-01T00:00:00.000000000Z");
  assert.equal(parseSince("2026-01-02T04:00:00+01:00", now), "2026-01-02T03:00:00.000000000Z");
  for (const text of ["", "5", "m", "yesterday", "5 m", "1h30", "5y", "-5m", "1.m"])
    assert.throws(() => parseSince(text, now), /--since/);
});
