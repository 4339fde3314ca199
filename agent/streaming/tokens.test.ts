import assert from "node:assert/strict";
import { test } from "node:test";
import { ResourceExhaustedError } from "../../sandbox/errors.js";
import { Tokens } from "./tokens.js";

test("a token has 128 bits and is good for one use", () => {
  const tokens = new Tokens<number>(() => 0);
  const token = tokens.issue(1);
  assert.equal(Buffer.from(token, "base64url").length, 16);
  assert.notEqual(tokens.issue(2), token);
  assert.equal(tokens.take(token), 1);
  assert.equal(tokens.take(token), undefined);
});

test("after a minute it is worth nothing", () => {
  let now = 0;
  const tokens = new Tokens<number>(() => now);
  const early = tokens.issue(1);
  now = 59_000;
  const late = tokens.issue(2);
  assert.equal(tokens.take(early), 1);
  now = 119_001;
  assert.equal(tokens.take(late), undefined);
});

test("a thousand may wait to be used; expired ones make room", () => {
  let now = 0;
  const tokens = new Tokens<number>(() => now);
  for (let count = 0; count < 1_000; count++) tokens.issue(count);
  assert.throws(() => tokens.issue(0), ResourceExhaustedError);
  now = 60_001;
  tokens.issue(0);
});
