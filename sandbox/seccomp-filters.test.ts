import assert from "node:assert/strict";
import { test } from "node:test";
import { seccompFilter, storedSpec } from "./seccomp-filters.js";
import { buildSpec } from "./spec/build-spec.js";
import { specInput, withSecurity } from "./spec/spec-fixtures.js";

const arch = process.arch;

function specWith(context: Record<string, unknown>, seccompProfile: string | null = null) {
  const config = withSecurity(context);
  const input = specInput({ config, hostFiles: { devices: [], seccompProfile, apparmorProfile: null } });
  return { config, spec: buildSpec({ ...input, host: { ...input.host, arch } }) };
}

test("an unconfined container has no filter", () => {
  const { config, spec } = specWith({});
  assert.equal(seccompFilter(spec).length, 0);
  assert.equal(storedSpec(spec, config), spec);
});

test("a profile is compiled once, and a stored spec leads to the same filter", () => {
  const { config, spec } = specWith({ seccomp: {} });
  const filter = seccompFilter(spec);
  assert.ok(filter.length > 0 && filter.length % 8 === 0);
  assert.equal(seccompFilter(specWith({ seccomp: {} }).spec), filter);
  const stored = JSON.parse(JSON.stringify(storedSpec(spec, config))) as typeof spec;
  assert.equal(stored.linux.seccomp?.syscalls, undefined);
  assert.ok(JSON.stringify(stored).length < 8_000);
  assert.equal(seccompFilter(stored), filter);
  const admin = specWith({ seccomp: {}, capabilities: { add_capabilities: ["SYS_ADMIN"] } });
  assert.notDeepEqual(seccompFilter(admin.spec), filter);
});

test("a Localhost profile is stored whole: its file may change", () => {
  const text = JSON.stringify({
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [{ names: ["chmod"], action: "SCMP_ACT_ERRNO" }],
  });
  const { config, spec } = specWith({ seccomp: { profile_type: "Localhost", localhost_ref: "/p" } }, text);
  const stored = storedSpec(spec, config);
  assert.deepEqual(stored.linux.seccomp?.syscalls, [{ names: ["chmod"], action: "SCMP_ACT_ERRNO" }]);
  assert.ok(seccompFilter(stored).length > 0);
});
