import assert from "node:assert/strict";
import { test } from "node:test";
import { sliceOfParent, slicePath } from "./slices.js";

test("a slice lies in the slices that its name begins with", () => {
  assert.equal(slicePath("berth.slice"), "/berth.slice");
  assert.equal(
    slicePath("kubepods-burstable-pod1_2.slice"),
    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice",
  );
});

test("a parent is a slice by its name or by its path", () => {
  for (const parent of ["a-b.slice", "/a-b.slice", "/a.slice/a-b.slice", "a.slice/a-b.slice/"]) {
    assert.equal(sliceOfParent(parent, "field"), "a-b.slice", parent);
  }
});

const wrong: [string, RegExp][] = [
  ["/kubepods/burstable/pod1", /^field: "\/kubepods\/burstable\/pod1" is no systemd slice.*RuntimeConfig/],
  ["/", /is no systemd slice/],
  ["a.scope", /is no systemd slice/],
  [".slice", /a name that no systemd slice can have/],
  ["-.slice", /a name that no/],
  ["a--b.slice", /a name that no/],
  ["a-.slice", /a name that no/],
  ["a b.slice", /a name that no/],
  ["../a.slice", /is not where systemd has a\.slice, which is \/a\.slice/],
  ["/b.slice/a-c.slice", /is not where systemd has a-c\.slice, which is \/a\.slice\/a-c\.slice/],
  [`${"a".repeat(250)}.slice`, /a name that no/],
];
for (const [parent, message] of wrong) {
  test(`refused: ${parent}`.slice(0, 60), () => {
    assert.throws(() => sliceOfParent(parent, "field"), { message, name: "InvalidArgumentError" });
  });
}
