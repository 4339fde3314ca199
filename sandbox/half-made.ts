/** Containers whose creation was not taken back whole: the agent was killed meanwhile, or something could not be removed. */
import { runLaterHooks } from "./hooks/container-hooks.js";
import type { Creation } from "./index-of-ids.js";
import { removeEmptyDirectories } from "./made-directories.js";
import type { SandboxNode } from "./node.js";
import { podNames } from "./pod.js";
import { endCreation } from "./pod-cgroups.js";
import { clearReflected } from "./reflected-mounts.js";
import { removeBundle } from "./runtime-bundle.js";

/** Takes the rest of it away, and then the record. Its monitor knows nothing of it, or is gone. */
export function removeHalfMade(node: SandboxNode, creation: Creation): Promise<void> {
  const { record } = creation;
  return node.serial.run(record.id, async () => {
    if (!node.containers.halfMade.has(creation)) return;
    await node.cgroups.kill(record.cgroupPath);
    await clearReflected(node, record.reflectedMounts ?? []);
    await node.cgroups.remove(record.cgroupPath);
    await runLaterHooks(node, "poststop", record, 0);
    await node.snapshots.removeRootfs(record.id);
    removeBundle(node, record.podId, record.id);
    removeEmptyDirectories(record.madeDirectories ?? []);
    const pod = node.pods.find(record.podId);
    await endCreation(node, creation);
    node.store.containers.delete(record.id);
    node.containers.halfMade.delete(creation);
    const names = pod === undefined ? {} : { pod: podNames(pod) };
    node.observer.emit({ type: "repaired", what: "half-made container", subject: record.id, ...names });
  });
}
