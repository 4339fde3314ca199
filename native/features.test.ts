import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { test } from "node:test";
import { native } from "./binding.js";
import { hasCapability, kernelFeatures, missingFeatures } from "./features.js";
import { openDescriptors } from "./test-support.js";

test("the probe agrees with what the kernel says of itself, and leaves nothing", () => {
  const before = openDescriptors();
  const features = native.probeFeatures();
  assert.equal(openDescriptors(), before);
  assert.equal(readFileSync(`/proc/self/task/${process.pid}/children`, "utf8"), "");
  assert.equal(features.release, release());
  const status = readFileSync("/proc/self/status", "utf8");
  assert.equal(features.capabilities, BigInt(`0x${status.match(/CapPrm:\s(\w+)/)?.[1]}`));
  assert.equal(features.lastCapability, Number(readFileSync("/proc/sys/kernel/cap_last_cap", "utf8")));
  assert.deepEqual(
    features.seccompActions,
    readFileSync("/proc/sys/kernel/seccomp/actions_avail", "utf8").trim().split(" "),
  );
  const [major = 0, minor = 0] = release().split(".").map(Number);
  const atLeast = (wantedMajor: number, wantedMinor: number) =>
    major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
  assert.equal(features.overlayLowerdirPlus, atLeast(6, 8));
  assert.equal(features.mountSetattr, atLeast(5, 12));
  if (features.userNamespaces) assert.equal(features.idmappedTmpfs, atLeast(6, 3));
  const probes = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].flatMap((root) => {
    try {
      return readdirSync(root).filter((name) => name === `berth-probe-${process.pid}`);
    } catch {
      return [];
    }
  });
  assert.deepEqual(probes, []);
});

test("features are probed once", () => {
  assert.equal(kernelFeatures(), kernelFeatures());
});

test("what is missing is told, the required first", () => {
  const all = {
    ...kernelFeatures(),
    overlayLowerdirPlus: true,
    mountSetattr: true,
    idmappedTmpfs: true,
    cgroupKill: true,
    seccomp: true,
    psi: true,
    userNamespaces: true,
  };
  assert.deepEqual(missingFeatures(all), []);
  const missing = missingFeatures({ ...all, psi: false, mountSetattr: false });
  assert.deepEqual(
    missing.map((feature) => feature.required),
    [true, false],
  );
  assert.match(missing[0]?.feature ?? "", /mount_setattr/);
});

test("capabilities are bits", () => {
  const features = { ...kernelFeatures(), capabilities: (1n << 40n) | 1n };
  assert.deepEqual(
    [0, 1, 24, 40].map((capability) => hasCapability(features, capability)),
    [true, false, false, true],
  );
});
