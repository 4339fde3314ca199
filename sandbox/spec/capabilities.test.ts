import assert from "node:assert/strict";
import { test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError } from "../errors.js";
import { capabilities, capabilityMask, capabilityNames } from "./capabilities.js";
import { hostCapabilities } from "./spec-fixtures.js";

/** What /proc/self/status shows in a container of the field's runtimes. */
const defaultMask = 0xa804_25fbn;

const root = { privileged: false, uid: 0, hostMask: hostCapabilities };

test("the default set is the field's fourteen, nothing of it inheritable or ambient", () => {
  const sets = capabilities(null, root);
  assert.equal(sets.bounding.length, 14);
  assert.equal(capabilityMask(sets.bounding), defaultMask);
  assert.equal(capabilityMask(sets.effective), defaultMask);
  assert.equal(capabilityMask(sets.permitted), defaultMask);
  assert.deepEqual(sets.inheritable, []);
  assert.deepEqual(sets.ambient, []);
});

test("names with and without CAP_, in any case", () => {
  const sets = capabilities({ add_capabilities: ["net_admin", "CAP_SYS_TIME"], drop_capabilities: ["Chown"] }, root);
  const expected = (defaultMask | capabilityMask(["CAP_NET_ADMIN", "CAP_SYS_TIME"])) & ~1n;
  assert.equal(capabilityMask(sets.bounding), expected);
});

test("ALL comes before single names, and a drop wins", () => {
  const mask = (add: string[], drop: string[]) =>
    capabilityMask(capabilities({ add_capabilities: add, drop_capabilities: drop }, root).bounding);
  assert.equal(mask(["ALL"], []), hostCapabilities);
  assert.equal(mask([], ["ALL"]), 0n);
  assert.equal(mask(["CHOWN"], ["ALL"]), 1n);
  assert.equal(mask(["ALL"], ["CHOWN"]), hostCapabilities & ~1n);
  assert.equal(mask(["CHOWN"], ["CHOWN"]), defaultMask & ~1n);
});

test("privileged has all of the agent's own, whatever is dropped", () => {
  const sets = capabilities({ drop_capabilities: ["ALL"] }, { ...root, privileged: true });
  assert.equal(capabilityMask(sets.bounding), hostCapabilities);
  assert.deepEqual(sets.ambient, []);
});

test("a user who is not root keeps the bounding set and what is ambient", () => {
  const sets = capabilities(
    { add_ambient_capabilities: ["NET_BIND_SERVICE", "KILL"], drop_capabilities: ["KILL"] },
    { ...root, uid: 1000 },
  );
  assert.equal(capabilityMask(sets.bounding), defaultMask & ~capabilityMask(["CAP_KILL"]));
  for (const set of [sets.effective, sets.permitted, sets.inheritable, sets.ambient]) {
    assert.deepEqual(set, ["CAP_NET_BIND_SERVICE"]);
  }
  assert.deepEqual(capabilities(null, { ...root, uid: 1000 }).permitted, []);
});

test("unknown names and those that the agent lacks are told by the field", () => {
  assert.throws(() => capabilities({ add_capabilities: ["FLY"] }, root), {
    name: InvalidArgumentError.name,
    message: 'config.linux.security_context.capabilities.add_capabilities: "FLY" is no capability',
  });
  assert.throws(() => capabilities({ drop_capabilities: [""] }, root), InvalidArgumentError);
  assert.throws(() => capabilities({ add_capabilities: ["SYS_RESOURCE"] }, root), FailedPreconditionError);
  // what is dropped need not be there
  capabilities({ drop_capabilities: ["SYS_RESOURCE"] }, root);
});

test("a mask and its names", () => {
  assert.deepEqual(capabilityNames(1n | (1n << 40n)), ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]);
  assert.equal(capabilityMask(["CAP_NONE"]), 0n);
});
