/** What a monitor tells without being asked, and what follows from it. */
import { recordExit } from "./container-end.js";
import type { MonitorEvents } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import type { Pod } from "./pod.js";
import { recordStart } from "./start-container.js";
import { stopPod } from "./stop-pod.js";

/** The callbacks for a connection to a pod's monitor. */
export function monitorEvents(node: SandboxNode, pod: Pod): MonitorEvents {
  const podId = pod.record.id;
  return {
    containerExit(exit) {
      const container = node.containers.find(exit.id ?? "");
      if (container !== undefined) recordExit(node, container, exit);
    },
    containerStarted(id, started) {
      const container = node.containers.find(id);
      if (container !== undefined) recordStart(node, container, started);
    },
    outOfMemory(containerId) {
      node.observer.emit({ type: "oom", podId, containerId });
    },
    logDropped(containerId, dropped) {
      node.observer.emit({ type: "log-dropped", podId, containerId, ...dropped });
    },
    closed() {
      pod.monitorPid = 0;
      if (pod.record.phase !== "ready") return;
      node.observer.emit({ type: "monitor-lost", podId });
      // its containers died with it; the pod is taken down and reported as not ready
      stopPod(node, pod).catch((error: unknown) => {
        node.observer.emit({ type: "trouble", what: "take down after the monitor was lost", subject: podId, error });
      });
    },
  };
}
