import assert from "node:assert/strict";
import { test } from "node:test";
import { isOf, lanes, reducedLanes } from "./tests.js";

/** The lanes of a test file, shortly. */
const lanesOf = (name: string) =>
  lanes
    .filter((lane) => isOf(lane, `/berth/dist/test/integration/${name}.test.js`))
    .map(({ kernel, securityModule, init, cgroups }) => [kernel, securityModule, init, cgroups].join(" "));

test("each file has its machine; what makes cgroups is run on those of both kinds", () => {
  assert.deepEqual(lanesOf("pods"), ["debian apparmor script v2"]);
  assert.deepEqual(lanesOf("selinux"), ["debian selinux script v2"]);
  assert.deepEqual(lanesOf("user-namespaces"), ["backports apparmor script v2"]);
  assert.deepEqual(lanesOf("systemd-package"), ["debian apparmor systemd v2"]);
  assert.deepEqual(lanesOf("systemd-driver"), ["debian apparmor systemd v2", "debian apparmor systemd hybrid"]);
  assert.deepEqual(lanesOf("cgroups"), ["debian apparmor script v2", "debian apparmor systemd hybrid"]);
});

test("the reduced set boots two machines", () => {
  assert.deepEqual(
    reducedLanes.map(({ init, cgroups }) => `${init} ${cgroups}`),
    ["script v2", "systemd v2"],
  );
});
