import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { sentenceOf } from "./failure.js";
import { printable } from "./output.js";

describe("what commands print", () => {
  it("steers no terminal", () => {
    assert.equal(printable("a\u001b[2Jb\u009bc\u0007\u202ed\r"), "a\ufffd[2Jb\ufffdc\ufffd\ufffdd\ufffd");
    assert.equal(printable("two\nlines\tand äöü 日本 🙂"), "two\nlines\tand äöü 日本 🙂");
    assert.equal(sentenceOf(new Error("x\u001b]0;title\u0007")), "x\ufffd]0;title\ufffd");
  });
});
