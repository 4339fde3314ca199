/** The cgroup above a pod's own: the request's cgroup_parent, which the kubelet makes, or Berth's root for other callers. */
import { join } from "node:path";
import { InvalidArgumentError } from "./errors.js";
import type { SandboxNode } from "./node.js";
import type { Pod, PodSandboxConfig } from "./pod.js";
import { update } from "./store.js";

/** NAME_MAX of linux/limits.h */
const maxNameBytes = 255;

/** A path from the hierarchies' roots. InvalidArgumentError: it is none, or is a systemd slice. */
export function cgroupParentOf(node: SandboxNode, config: PodSandboxConfig): string {
  const field = "config.linux.cgroup_parent";
  const asked = config.linux?.cgroup_parent ?? "";
  if (asked === "") return node.cgroupRoot;
  const parts = asked.split("/").filter((part) => part !== "");
  if (parts.length === 0 || !parts.every(isName)) {
    throw new InvalidArgumentError(`${field}: ${JSON.stringify(asked)} is not a path below the cgroup root`);
  }
  if (parts.at(-1)?.endsWith(".slice")) {
    throw new InvalidArgumentError(
      `${field}: ${JSON.stringify(asked)} is a systemd slice, and this runtime uses the cgroupfs driver (RuntimeConfig tells)`,
    );
  }
  return `/${parts.join("/")}`;
}

/** The kernel makes no cgroup with a line's end in its name. */
function isName(part: string): boolean {
  return part !== "." && part !== ".." && !/[\0\n]/.test(part) && Buffer.byteLength(part) <= maxNameBytes;
}

/**
 * Removes the parents that were made for a pod which is going; those that other pods use, or are about to, become the
 * care of one of them. Its own cgroups must be gone, and nobody may find the pod among the others any more.
 */
export async function removeMadeParents(node: SandboxNode, pod: Pod): Promise<void> {
  const others = [...node.pods.starting, ...node.pods.list()].filter((other) => other !== pod);
  const unused = pod.record.madeCgroupParents.filter((directory) => {
    const heir = others.find((other) => usesDirectory(node, other, directory));
    if (heir !== undefined) careForParents(node, heir, [directory]);
    return heir === undefined;
  });
  await node.cgroups.removeParents(unused);
}

/** Notes in the pod's record that these directories were made, for it or for others that are gone. */
export function careForParents(node: SandboxNode, pod: Pod, directories: readonly string[]): void {
  const all = new Set([...pod.record.madeCgroupParents, ...directories]);
  if (all.size === pod.record.madeCgroupParents.length) return;
  update(node.store.pods, pod, { madeCgroupParents: [...all].sort((a, b) => a.length - b.length) });
}

function usesDirectory(node: SandboxNode, pod: Pod, directory: string): boolean {
  return node.cgroups.hierarchies.some((hierarchy) => {
    const parent = join(hierarchy.mountPoint, pod.record.cgroupParent);
    return `${parent}/`.startsWith(`${directory}/`);
  });
}
