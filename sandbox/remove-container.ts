import type { Container } from "./container.js";
import { UnavailableError } from "./errors.js";
import { isNotRunning } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import { stopContainer } from "./stop-container.js";

/** Takes a container away, a running one by force. Its log file is the caller's to remove. */
export function removeContainer(node: SandboxNode, container: Container): Promise<void> {
  const { id, podId, cgroupPath } = container.record;
  return node.serial.run(id, async () => {
    if (node.containers.find(id) === undefined) return;
    await stopContainer(node, container, 0);
    // also ends the init of a container that was never started
    await forgetInMonitor(node, container);
    await node.cgroups.remove(cgroupPath);
    await node.snapshots.removeRootfs(id);
    node.store.containers.delete(id);
    node.containers.delete(id);
    container.ended.open();
    node.observer.emit({ type: "container-event", event: "deleted", podId, containerId: id });
  });
}

async function forgetInMonitor(node: SandboxNode, container: Container): Promise<void> {
  const monitor = node.monitors.find(container.record.podId);
  try {
    await monitor?.deleteContainer(container.record.id);
  } catch (error) {
    // a monitor that does not know the container, or is ending itself, has nothing to forget
    if (!isNotRunning(error) && !(error instanceof UnavailableError)) throw error;
  }
}
