import { type Frozen, frozenAt, thaw } from "./cgroup/freezer.js";
import type { Container } from "./container.js";
import { FailedPreconditionError } from "./errors.js";
import type { SandboxNode } from "./node.js";
import type { Pod } from "./pod.js";
import { hasToItself } from "./pod-cgroups.js";

/**
 * Lets a cgroup of a pod go on that somebody has frozen, so that it can be ended: a frozen monitor answers nobody, and with
 * cgroup v1 not even SIGKILL reaches what is frozen. FailedPreconditionError: it is frozen with others. What cgroup v2 has
 * frozen with others stays so, as it can be killed.
 */
export async function thawPod(node: SandboxNode, pod: Pod, path: string): Promise<void> {
  // somebody who freezes it again and again is not raced with
  for (let level = path.split("/").length; level > 0; level--) {
    const frozen = frozenAt(node.cgroups.hierarchies, path);
    if (frozen === undefined) return;
    if (hasToItself(node, pod, frozen.path)) await thaw(frozen);
    else if (frozen.keepsSignals)
      throw new FailedPreconditionError(`pod sandbox ${pod.record.id} ${isFrozenWith(frozen)}`);
    else return;
  }
}

/** The same for a container that is to be ended: its own cgroup, and the one of its pod's monitor, which does it. */
export async function thawContainer(node: SandboxNode, { record }: Container): Promise<void> {
  const pod = node.pods.find(record.podId);
  if (pod === undefined) return;
  for (const path of [record.cgroupPath, pod.record.monitorCgroup]) await thawPod(node, pod, path);
}

/** The rest of a sentence that begins with what is frozen. */
export function isFrozenWith({ path, file, thawed }: Frozen): string {
  return `is frozen with cgroup ${path}; write ${thawed} to ${file}`;
}
