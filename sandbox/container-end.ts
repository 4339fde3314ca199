/** The end of a container: recorded once, whoever tells of it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { berth } from "../cri-proto/generated/monitor.js";
import type { Container, ContainerRecord } from "./container.js";
import { fieldsOfContainer } from "./field-of-step.js";
import { monitorError, toBigInt, toCallError } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import { podDirectory } from "./paths.js";
import { clearReflected } from "./reflected-mounts.js";
import { learn } from "./store.js";

/** Records how a container ended; told twice, the first time counts. Its cgroup goes, what waits for its end wakes. */
export function recordExit(node: SandboxNode, container: Container, exit: berth.monitor.v1.IContainerExit): void {
  const exitCode = exit.exit_code ?? 0;
  const finishedAt = toBigInt(exit.finished_at).toString();
  if (exit.start_error) {
    const { message } = startFailure(container, monitorError(exit.start_error));
    finish(node, container, { exitCode, finishedAt, reason: startErrorReason, message });
    return;
  }
  // a child of it may have been killed, and the program have coped
  const oomKilled = (exit.oom_killed ?? false) && exitCode !== 0;
  const neverStarted = toBigInt(exit.started_at) === 0n;
  finish(node, container, {
    exitCode,
    finishedAt,
    ...(neverStarted ? {} : { startedAt: toBigInt(exit.started_at).toString() }),
    reason: oomKilled ? "OOMKilled" : exitCode === 0 ? "Completed" : "Error",
    message: "",
  });
}

/** Of a container whose program could not be executed. */
export const startErrorReason = "StartError";

/** What a container that could not be started is told of, and to whoever has asked for its start. */
export function startFailure({ record, config }: Container, error: unknown): Error {
  return toCallError(error, `container ${record.id} could not be started`, fieldsOfContainer(config));
}

/** Records an end of which nobody knows more than that it came: the machine went down, or the monitor left no word. */
export function recordUnknownExit(node: SandboxNode, container: Container, message: string): void {
  finish(node, container, {
    exitCode: 255,
    finishedAt: (BigInt(Date.now()) * 1_000_000n).toString(),
    reason: "Unknown",
    message,
  });
}

/** The monitor tells an exit before it ends; what it could not tell stands in the exit file, or is known to be SIGKILL. */
export function recordEndWithPod(node: SandboxNode, container: Container): void {
  if (container.record.phase === "exited") return;
  const exit = readExitFile(node, container.record);
  if (exit !== undefined) {
    recordExit(node, container, exit);
    return;
  }
  finish(node, container, {
    exitCode: 137,
    finishedAt: (BigInt(Date.now()) * 1_000_000n).toString(),
    reason: "Error",
    message: "killed with its pod, whose monitor was lost",
  });
}

/** Undefined: the monitor wrote none, or went while it wrote. */
function readExitFile(node: SandboxNode, { id, podId }: ContainerRecord): berth.monitor.v1.ContainerExit | undefined {
  try {
    return berth.monitor.v1.ContainerExit.decode(readFileSync(join(podDirectory(node.paths, podId), "exits", id)));
  } catch {
    return undefined;
  }
}

type End = Pick<ContainerRecord, "exitCode" | "finishedAt" | "reason" | "message"> & { startedAt?: string };

/** The one place where a container becomes "exited". */
export function finish(node: SandboxNode, container: Container, end: End): void {
  const { podId, id, cgroupPath, reflectedMounts = [] } = container.record;
  // who has waited for its pod's end may come when it was removed already: its record must not come back
  if (container.record.phase === "exited" || node.containers.find(id) === undefined) return;
  // its end is told before the answer to its start has come
  const startUntold = container.record.phase === "created" && end.startedAt !== undefined;
  learn(node.store.containers, container, { ...end, phase: "exited" });
  container.pid = 0;
  container.ended.open();
  const oomKilled = end.reason === "OOMKilled";
  if (startUntold) node.observer.emit({ type: "container-event", event: "started", podId, containerId: id });
  node.observer.emit({ type: "container-exit", podId, containerId: id, exitCode: end.exitCode, oomKilled });
  node.observer.emit({ type: "container-event", event: "stopped", podId, containerId: id });
  clearReflected(node, reflectedMounts).catch((error: unknown) => {
    node.observer.emit({
      type: "trouble",
      what: "clear what the container's mounts left on the host",
      subject: id,
      error,
    });
  });
  node.cgroups.remove(cgroupPath).catch((error: unknown) => {
    node.observer.emit({ type: "trouble", what: "remove the container's cgroup", subject: cgroupPath, error });
  });
}
