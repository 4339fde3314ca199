/** What no namespace can be broken in: the kernel's own settings, modules and clock, in a directory instead of /. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import type { KernelFeatures } from "../../native/binding.js";
import { loadConfig } from "../config.js";
import { clockAgainst } from "./clock.js";
import { examineMachine } from "./machine.js";

const roots: string[] = [];
after(() => {
  for (const root of roots) rmSync(root, { recursive: true });
});

const features = {
  release: "6.12.0-1",
  userNamespaces: true,
  idmappedTmpfs: true,
  psi: true,
} as KernelFeatures;

async function ids(files: Record<string, string>, kernel: Partial<KernelFeatures> = {}): Promise<string[]> {
  const root = mkdtempSync(join(tmpdir(), "berth-machine-"));
  roots.push(root);
  const all = { "lib/modules/6.12.0-1/modules.dep": "kernel/fs/overlayfs/overlay.ko.xz:\n", ...files };
  for (const [path, content] of Object.entries(all)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  const config = loadConfig({}, "/dev/null");
  const findings = await examineMachine({
    root,
    config,
    network: "none",
    features: { ...features, ...kernel },
    cgroupMode: "v1",
  });
  const places = ["DiskNearlyFull", "InodesNearlyUsedUp"];
  return findings.map(({ id, what }) => `${id}: ${what}`).filter((line) => !places.includes(line.split(":")[0] ?? ""));
}

test("nothing is found where nothing is wrong", async () => {
  const kubelet = "cgroupDriver: cgroupfs\ncontainerRuntimeEndpoint: unix:///run/berth/berth.sock\n";
  const files = {
    "proc/modules": "overlay 1 1 - Live 0\n",
    "proc/sys/kernel/pid_max": "4194304\n",
    "var/lib/kubelet/config.yaml": kubelet,
  };
  assert.deepEqual(await ids(files), []);
});

test("settings of the kernel that are for a machine with few programs", async () => {
  const files = {
    "proc/sys/kernel/pid_max": "32768\n",
    "proc/sys/net/netfilter/nf_conntrack_count": "60000\n",
    "proc/sys/net/netfilter/nf_conntrack_max": "65536\n",
  };
  assert.deepEqual(await ids(files), [
    "SysctlLow: kernel.pid_max is 32768",
    "ConntrackFull: the kernel follows 60000 connections, of 65536 that it can",
  ]);
});

test("modules that are gone with an upgrade of the kernel, or were never installed", async () => {
  const [gone] = await ids({ "proc/modules": "ext4 1 1 - Live 0\n" }, { release: "6.12.0-2" });
  assert.match(gone ?? "", /^ModulesGone: \/lib\/modules\/6\.12\.0-2 is not there/);
  const missing = await ids({ "proc/modules": "ext4 1\n", "lib/modules/6.12.0-1/modules.dep": "kernel/a.ko:\n" });
  assert.deepEqual(missing, ["ModuleMissing: the kernel module overlay is neither loaded nor installed"]);
});

test("what an old kernel lacks", async () => {
  const found = await ids({}, { release: "5.15.0", idmappedTmpfs: false });
  assert.deepEqual(found, [
    "KernelFeatureMissing: the kernel lacks idmapped tmpfs (Linux 6.3)",
    "KernelOld: Linux 5.15.0 is older than 6.1",
  ]);
});

test("a kubelet's configuration that does not fit", async () => {
  const path = "var/lib/kubelet/config.yaml";
  assert.deepEqual(await ids({ [path]: "a: [" }), [
    "KubeletConfigurationBroken: /var/lib/kubelet/config.yaml is no YAML",
  ]);
  const found = await ids({
    [path]: "failCgroupV1: true\ncontainerRuntimeEndpoint: /run/containerd/containerd.sock\n",
  });
  assert.deepEqual(
    found.map((line) => line.split(":")[0]),
    ["KubeletElsewhere", "KubeletRefusesCgroupV1"],
  );
});

test("a clock is compared with another machine's", () => {
  const now = Date.parse("2026-11-26T12:00:00Z");
  assert.deepEqual(clockAgainst("Thu, 26 Nov 2026 12:00:50 GMT", "r", now), []);
  assert.deepEqual(clockAgainst("no date", "r", now), []);
  assert.deepEqual(clockAgainst(undefined, "r", now), []);
  const [finding] = clockAgainst("Thu, 26 Nov 2026 13:00:00 GMT", "r.example", now);
  assert.equal(finding?.what, "the clock is 3600 s behind that of r.example");
});
