import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { checkCgroupPath, parentsOf } from "./paths.js";

describe("checkCgroupPath", () => {
  it("takes absolute paths", () => {
    for (const path of ["/a", "/kubepods.slice/pod 1/x", "/..a/b..", "/a:b"]) checkCgroupPath(path);
  });

  for (const path of [
    "",
    "a",
    "/",
    "//a",
    "/a/",
    "/a//b",
    "/a/../b",
    "/..",
    "/.",
    "/a\nb",
    "/a\0b",
    `/${"x".repeat(256)}`,
  ]) {
    it(`refuses ${JSON.stringify(path.slice(0, 20))}`, () => {
      assert.throws(() => checkCgroupPath(path), InvalidArgumentError);
    });
  }
});

describe("parentsOf", () => {
  it("lists the outermost first, without the root", () => {
    assert.deepEqual(parentsOf("/a/b/c"), ["/a", "/a/b"]);
    assert.deepEqual(parentsOf("/a"), []);
  });
});
