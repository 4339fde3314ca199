import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { deviceListWrites, devicePolicy } from "./device-rules.js";

describe("devicePolicy", () => {
  it("is none without rules", () => {
    assert.equal(devicePolicy(undefined), undefined);
    assert.equal(devicePolicy([]), undefined);
  });

  it("denies by default, and puts the uses of a device together", () => {
    const policy = devicePolicy([
      { allow: true, type: "c", major: 1, minor: 3, access: "r" },
      { allow: true, type: "c", major: 1, minor: 3, access: "mw" },
      { allow: true, type: "c", access: "m" },
    ]);
    assert.deepEqual(policy, {
      allowByDefault: false,
      exceptions: [
        { type: "c", major: 1, minor: 3, access: "rwm" },
        { type: "c", major: -1, minor: -1, access: "m" },
      ],
    });
  });

  it("begins anew with a rule for all devices", () => {
    const policy = devicePolicy([
      { allow: false, access: "rwm" },
      { allow: true, type: "c", major: 1, minor: 3 },
      { allow: true },
    ]);
    assert.deepEqual(policy, { allowByDefault: true, exceptions: [] });
  });

  it("takes back access to the same numbers", () => {
    const policy = devicePolicy([
      { allow: false },
      { allow: true, type: "b", major: 8, minor: 0, access: "rwm" },
      { allow: false, type: "b", major: 8, minor: 0, access: "w" },
    ]);
    assert.deepEqual(policy?.exceptions, [{ type: "b", major: 8, minor: 0, access: "rm" }]);
  });

  it("refuses to take back a part of a wider rule, which v1's lists would silently keep", () => {
    const rules = [
      { allow: true, type: "c", access: "rwm" },
      { allow: false, type: "c", major: 1, minor: 1, access: "r" },
    ] as const;
    assert.throws(() => devicePolicy(rules), InvalidArgumentError);
  });

  for (const rule of [
    { allow: true, access: "x" },
    { allow: true, access: "" },
    { allow: true, access: "m" },
    { allow: true, type: "c", major: -2 },
    { allow: true, type: "c", major: 1.5 },
  ] as const) {
    it(`refuses ${JSON.stringify(rule)}`, () => assert.throws(() => devicePolicy([rule]), InvalidArgumentError));
  }
});

describe("deviceListWrites", () => {
  it("denies all first", () => {
    const policy = { allowByDefault: false, exceptions: [{ type: "c", major: 136, minor: -1, access: "rw" }] } as const;
    assert.deepEqual(deviceListWrites({ ...policy, exceptions: [...policy.exceptions] }), [
      { file: "devices.deny", value: "a" },
      { file: "devices.allow", value: "c 136:* rw" },
    ]);
  });

  it("leaves the parent's rules alone when all are allowed", () => {
    assert.deepEqual(deviceListWrites({ allowByDefault: true, exceptions: [] }), []);
  });
});
