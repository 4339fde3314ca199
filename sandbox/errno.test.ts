import assert from "node:assert/strict";
import { test } from "node:test";
import { describeErrno, isDiskFullErrno } from "./errno.js";

test("an errno is told by its name and in words, also where Node has no name for it", () => {
  assert.equal(describeErrno(2), "ENOENT (no such file or directory)");
  assert.match(describeErrno(8), /^ENOEXEC \(exec format error/);
  assert.equal(describeErrno(11), "EAGAIN");
  assert.equal(describeErrno(122), "EDQUOT (a quota is used up)");
  assert.equal(describeErrno(4000), "errno 4000");
});

test("a quota that is used up is a full disk, and success is none", () => {
  assert.deepEqual([0, 2, 28, 122].map(isDiskFullErrno), [false, false, true, true]);
});
