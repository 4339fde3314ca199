import type { Container } from "./container.js";
import { FailedPreconditionError, InternalError, UnavailableError } from "./errors.js";
import { whyMonitorIsFrozen } from "./frozen-monitor.js";
import { isNotRunning, toCallError } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import { linuxSignal } from "./spec/stop-signal.js";
import { thawContainer } from "./thaw-pod.js";

/** Killing takes the kernel a moment; longer than this and the container hangs in the kernel. */
const killTimeoutMs = 10_000;
/** What has not ended by then may be frozen: with cgroup v1 even SIGKILL waits until it is thawed. */
export const frozenAfterMs = 500;
const sigkill = 9;

/**
 * The stop signal to the container's init, the grace period, then SIGKILL to everything in it. Back when it has ended;
 * a container that does not run is left as it is. No lock is held while it waits: calls at the same time, with other
 * grace periods, each do their part.
 */
export async function stopContainer(node: SandboxNode, container: Container, graceMs: number): Promise<void> {
  const { id, podId, stopSignal } = container.record;
  // one whose start came first must not run on; after the grace period it is killed, started or not
  const { starting } = container;
  const late = starting !== undefined && !(await starting.wait(graceMs));
  if (container.record.phase !== "running" && !late) return;
  // the time is for the sending, too: a monitor that is frozen takes nothing
  const endsWithin = (ms: number, sending: Promise<void>) => {
    const ended = container.ended.wait(ms);
    return Promise.race([ended, sending.then(() => ended)]);
  };
  try {
    if (graceMs > 0 && !late && (await endsWithin(graceMs, signal(node, container, linuxSignal(stopSignal), false))))
      return;
    if (await endsWithin(frozenAfterMs, signal(node, container, sigkill, true))) return;
    await thawContainer(node, container);
    await node.cgroups.kill(container.record.cgroupPath);
    const why = whyMonitorIsFrozen(node, podId) ?? (isSilent(node, podId) ? "cannot be talked to" : undefined);
    if (why !== undefined && !container.ended.isOpen) {
      throw new FailedPreconditionError(`container ${id} was killed; its pod's monitor, which tells its end, ${why}`);
    }
  } catch (error) {
    throw toCallError(error, `container ${id} could not be stopped`);
  }
  if (!(await container.ended.wait(killTimeoutMs))) {
    throw new InternalError(`container ${id} was killed but has not ended after ${killTimeoutMs / 1000} s`);
  }
}

/** Its pod goes on without a monitor that this agent has a connection to. */
function isSilent(node: SandboxNode, podId: string): boolean {
  return node.pods.find(podId)?.record.phase === "ready" && node.monitors.find(podId) === undefined;
}

/** A container that ended in the meantime needs no signal. */
async function signal(node: SandboxNode, container: Container, number: number, all: boolean): Promise<void> {
  try {
    await node.monitors.get(container.record.podId).signalContainer(container.record.id, number, all);
  } catch (error) {
    if (container.ended.isOpen) return;
    // the exit is on its way, or the whole pod is
    if (error instanceof FailedPreconditionError || error instanceof UnavailableError || isNotRunning(error)) return;
    throw error;
  }
}
