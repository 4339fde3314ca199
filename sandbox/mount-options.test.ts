import assert from "node:assert/strict";
import { test } from "node:test";
import { mountAttribute, parseMountOptions } from "./mount-options.js";

test("of several access times the last one counts, and none is left of the host's", () => {
  const { noatime, strictatime, nodiratime } = mountAttribute;
  const attributesOf = (...options: string[]) => {
    const { attributes, cleared } = parseMountOptions(options);
    return [attributes, cleared];
  };
  const all = 0x70;
  assert.deepEqual(attributesOf("strictatime", "nodiratime", "noatime"), [nodiratime | noatime, all]);
  assert.deepEqual(attributesOf("noatime", "strictatime"), [strictatime, all]);
  assert.deepEqual(attributesOf("noatime", "relatime"), [0, all]);
  assert.deepEqual(attributesOf("nodiratime", "rw"), [nodiratime, 0]);
});
