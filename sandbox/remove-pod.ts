import { rmSync } from "node:fs";
import { removeHalfMade } from "./half-made.js";
import type { SandboxNode } from "./node.js";
import { podDirectory } from "./paths.js";
import type { Pod } from "./pod.js";
import { removeMadeParents } from "./pod-cgroups.js";
import { removeContainer } from "./remove-container.js";
import { stopPod } from "./stop-pod.js";

/** Stops the pod if need be, removes its containers and everything that is left of it. */
export async function removePod(node: SandboxNode, pod: Pod): Promise<void> {
  await stopPod(node, pod);
  // one that cannot be removed holds up none of the others
  const removals = [
    ...node.containers.ofPod(pod.record.id).map((container) => removeContainer(node, container)),
    ...node.containers.halfMadeOf(pod.record.id).map((creation) => removeHalfMade(node, creation)),
  ];
  const failed = (await Promise.allSettled(removals)).find(({ status }) => status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
  // of two removals at the same time one has come first
  if (node.pods.find(pod.record.id) !== undefined) await forgetPod(node, pod);
}

/** The last step: the run directory, the cgroup parents that were made for the pod, and then the record. */
export async function forgetPod(node: SandboxNode, pod: Pod): Promise<void> {
  const { id } = pod.record;
  // synchronous: a creation that outlives the pod puts nothing into the directory meanwhile
  rmSync(podDirectory(node.paths, id), { recursive: true, force: true });
  // while it can still be asked about: who hears of it wants to know which pod that was
  node.observer.emit({ type: "pod-event", event: "deleted", podId: id });
  node.pods.delete(id);
  try {
    await removeMadeParents(node, pod);
    node.store.pods.delete(id);
  } catch (error) {
    // whoever has asked for its removal can ask again
    node.pods.add(pod);
    throw error;
  }
}
