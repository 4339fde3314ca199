/** The cgroup above a pod's own: the request's cgroup_parent, which the kubelet makes, or Berth's root for other callers. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError } from "./errors.js";
import type { SandboxNode } from "./node.js";
import type { Pod, PodSandboxConfig } from "./pod.js";
import { update } from "./store.js";

/** A path from the hierarchies' roots. InvalidArgumentError: it is none, or is a systemd slice. */
export function cgroupParentOf(node: SandboxNode, config: PodSandboxConfig): string {
  const field = "config.linux.cgroup_parent";
  const asked = config.linux?.cgroup_parent ?? "";
  if (asked === "") return node.cgroupRoot;
  const parts = asked.split("/").filter((part) => part !== "");
  if (parts.some((part) => part === "." || part === "..") || parts.length === 0 || asked.includes("\0")) {
    throw new InvalidArgumentError(`${field}: ${JSON.stringify(asked)} is not a path below the cgroup root`);
  }
  if (parts.at(-1)?.endsWith(".slice")) {
    throw new InvalidArgumentError(
      `${field}: ${JSON.stringify(asked)} is a systemd slice, and this runtime uses the cgroupfs driver (RuntimeConfig tells)`,
    );
  }
  return `/${parts.join("/")}`;
}

/** Removes what is empty of the parents that were made for the pod; what others still use becomes the care of one of them. */
export async function removeMadeParents(node: SandboxNode, pod: Pod): Promise<void> {
  await node.cgroups.removeParents(pod.record.madeCgroupParents);
  const left = pod.record.madeCgroupParents.filter((directory) => existsSync(directory));
  const others = node.pods.list().filter((other) => other !== pod);
  for (const directory of left) {
    const heir = others.find((other) => usesDirectory(node, other, directory));
    if (heir === undefined || heir.record.madeCgroupParents.includes(directory)) continue;
    const both = [...heir.record.madeCgroupParents, directory];
    update(node.store.pods, heir, { madeCgroupParents: both.sort((a, b) => a.length - b.length) });
  }
}

function usesDirectory(node: SandboxNode, pod: Pod, directory: string): boolean {
  return node.cgroups.hierarchies.some((hierarchy) => {
    const parent = join(hierarchy.mountPoint, pod.record.cgroupParent);
    return `${parent}/`.startsWith(`${directory}/`);
  });
}
