import { setTimeout as sleep } from "node:timers/promises";
import type { Container } from "./container.js";
import { recordEndWithPod } from "./container-end.js";
import { UnavailableError } from "./errors.js";
import { unlessFrozen } from "./frozen-monitor.js";
import { runLaterHooks } from "./hooks/container-hooks.js";
import { isNotRunning, isUnknown } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import { clearReflected } from "./reflected-mounts.js";
import { removeBundle } from "./runtime-bundle.js";
import { frozenAfterMs, stopContainer } from "./stop-container.js";
import { thawContainer } from "./thaw-pod.js";

/** Takes a container away, a running one by force. Its log file is the caller's to remove. */
export function removeContainer(node: SandboxNode, container: Container): Promise<void> {
  const { id, podId, cgroupPath } = container.record;
  return node.serial.run(id, async () => {
    if (node.containers.find(id) === undefined) return;
    await stopContainer(node, container, 0);
    // also ends the init of a container that was never started
    await thawedIfSilent(node, container, forgetInMonitor(node, podId, id));
    // of a monitor that cannot be talked to the init lives on
    if (node.monitors.find(podId) === undefined) await node.cgroups.kill(cgroupPath);
    // and one that is ending with its pod has told nothing
    recordEndWithPod(node, container);
    await clearReflected(node, container.record.reflectedMounts ?? []);
    await node.cgroups.remove(cgroupPath);
    await runLaterHooks(node, "poststop", container.record, 0);
    removeBundle(node, podId, id);
    await node.snapshots.removeRootfs(id);
    node.store.containers.delete(id);
    node.containers.delete(id);
    container.ended.open();
    node.observer.emit({ type: "container-event", event: "deleted", podId, containerId: id });
  });
}

/** A frozen monitor is thawed for it, as it is for a stop. */
async function thawedIfSilent(node: SandboxNode, container: Container, forgetting: Promise<void>): Promise<void> {
  const waiting = new AbortController();
  const silent = sleep(frozenAfterMs, true, { signal: waiting.signal });
  silent.catch(() => undefined);
  const isSilent = await Promise.race([forgetting.then(() => false), silent]).finally(() => waiting.abort());
  if (!isSilent) return;
  await thawContainer(node, container);
  await unlessFrozen(node, container.record.podId, forgetting);
}

/**
 * Ends what the monitor has of a container. One that does not know it has nothing to forget; one that is ending itself, or
 * was lost, is waited for: its OCI runtime may still be at work in the container's bundle.
 */
export async function forgetInMonitor(node: SandboxNode, podId: string, id: string): Promise<void> {
  const monitor = node.monitors.find(podId);
  if (monitor === undefined) return untilMonitorEnded(node, podId);
  try {
    await monitor.deleteContainer(id);
  } catch (error) {
    if (isUnknown(error)) return;
    if (!isNotRunning(error) && !(error instanceof UnavailableError)) throw error;
    await untilMonitorEnded(node, podId);
  }
}

async function untilMonitorEnded(node: SandboxNode, podId: string): Promise<void> {
  await node.monitors.untilEnded(podId);
  const pod = node.pods.find(podId);
  if (pod === undefined || pod.record.phase === "stopped" || node.monitors.isLeftToItself(podId)) return;
  // in the host's PID namespace what it has started does not end with it
  await node.cgroups.kill(pod.record.monitorCgroup);
}
