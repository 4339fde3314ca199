import { type KernelFeatures, native } from "./binding.js";

let probed: KernelFeatures | undefined;

/** What this kernel can do. Probed at the first call (a millisecond), the same object ever after. */
export function kernelFeatures(): KernelFeatures {
  probed ??= Object.freeze(native.probeFeatures());
  return probed;
}

/** A feature that is missing, for Status, doctor and the log. */
export interface MissingFeature {
  feature: string;
  /** nothing can run without it */
  required: boolean;
  /** what Berth does instead, or what does not work */
  consequence: string;
}

interface Check {
  feature: string;
  has(features: KernelFeatures): boolean;
  required: boolean;
  consequence: string;
}

const checks: Check[] = [
  {
    feature: "mount_setattr (Linux 5.12)",
    has: (features) => features.mountSetattr,
    required: true,
    consequence: "read-only and private mounts cannot be made; no container can start",
  },
  {
    feature: "seccomp filters (CONFIG_SECCOMP_FILTER)",
    has: (features) => features.seccomp,
    required: false,
    consequence: "only containers with the Unconfined profile can start",
  },
  {
    feature: "overlay's lowerdir+ (Linux 6.8)",
    has: (features) => features.overlayLowerdirPlus,
    required: false,
    consequence: "root file systems are mounted by way of a scratch mount namespace",
  },
  {
    feature: "idmapped tmpfs (Linux 6.3)",
    has: (features) => features.idmappedTmpfs,
    required: false,
    consequence: "pods with user namespaces are refused",
  },
  {
    feature: "user namespaces (CONFIG_USER_NS)",
    has: (features) => features.userNamespaces,
    required: false,
    consequence: "pods with user namespaces are refused",
  },
  {
    feature: "cgroup.kill (Linux 5.14 and a cgroup2 mount)",
    has: (features) => features.cgroupKill,
    required: false,
    consequence: "process trees are killed one process at a time, and those of an exec that timed out may escape",
  },
  {
    feature: "pressure stall information (CONFIG_PSI)",
    has: (features) => features.psi,
    required: false,
    consequence: "no pressure metrics",
  },
];

/** What is missing, the required ones first; AppArmor and SELinux are a choice of the host's and never missing. */
export function missingFeatures(features: KernelFeatures): MissingFeature[] {
  return checks
    .filter((check) => !check.has(features))
    .map(({ feature, required, consequence }) => ({ feature, required, consequence }))
    .sort((a, b) => Number(b.required) - Number(a.required));
}

/** Linux' number of a capability to whether the agent has it in its permitted set. */
export function hasCapability(features: KernelFeatures, capability: number): boolean {
  return ((features.capabilities >> BigInt(capability)) & 1n) === 1n;
}
