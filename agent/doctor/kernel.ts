import type { KernelFeatures } from "../../native/binding.js";
import { missingFeatures } from "../../native/features.js";
import type { Finding } from "../doctor.js";

const oldest = [6, 1] as const;
/** ../doctor.ts has these, with remedies of their own */
const toldElsewhere = /^(?:mount_setattr|seccomp|overlay's|cgroup\.kill)/;

export function kernelFindings(features: KernelFeatures): Finding[] {
  const findings: Finding[] = missingFeatures(features)
    .filter(({ feature }) => !toldElsewhere.test(feature))
    .map(({ feature, required, consequence }) => ({
      id: "KernelFeatureMissing",
      severity: required ? "error" : "note",
      what: `the kernel lacks ${feature}`,
      consequence,
      remedy: "Nothing needs to be done unless pods are to have it: then a kernel with that option is needed.",
    }));
  const [major = 0, minor = 0] = features.release.split(/[.-]/).map(Number);
  if (major < oldest[0] || (major === oldest[0] && minor < oldest[1])) {
    findings.push({
      id: "KernelOld",
      severity: "warning",
      what: `Linux ${features.release} is older than ${oldest.join(".")}`,
      consequence: "it is not tested with kernels so old",
      remedy: `Use Linux ${oldest.join(".")} or newer.`,
    });
  }
  return findings;
}
