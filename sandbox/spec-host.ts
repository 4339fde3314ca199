import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { SandboxNode } from "./node.js";
import type { SpecHost } from "./spec/build-spec.js";

/** What of this host decides about a container's spec. */
export function specHost(node: Pick<SandboxNode, "features" | "cgroups" | "rlimits">): SpecHost {
  const { features, cgroups, rlimits } = node;
  return {
    capabilities: features.capabilities,
    cgroup: { mode: cgroups.mode, hierarchies: cgroups.hierarchies },
    arch: process.arch,
    kernelRelease: features.release,
    hostname: hostname(),
    rlimits,
    oomScoreAdj: Number(readFileSync("/proc/self/oom_score_adj", "utf8")),
  };
}
