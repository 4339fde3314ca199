import type { Container } from "./container.js";
import { checkContainerTransition } from "./container.js";
import { finish, startErrorReason, startFailure } from "./container-end.js";
import { BerthError, FailedPreconditionError } from "./errors.js";
import { runLaterHooks } from "./hooks/container-hooks.js";
import { Latch } from "./latch.js";
import { isNotRunning, type ProgramStart } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import { learn, update } from "./store.js";

/** The exit code of a container whose program could not be executed. */
const startErrorExitCode = 128;

/**
 * Lets the waiting init execute the container's program. A program that is missing or cannot be executed is this call's
 * error, names the program, and leaves the container exited with reason StartError.
 */
export function startContainer(node: SandboxNode, container: Container): Promise<void> {
  const { id, podId } = container.record;
  const starting = new Latch();
  container.starting = starting;
  const end = () => {
    if (container.starting === starting) container.starting = undefined;
    starting.open();
  };
  const startProgram = async () => {
    checkContainerTransition(container.record, "running");
    const monitor = node.monitors.get(podId);
    let started: ProgramStart;
    try {
      started = await node.observer.step("start-container", "exec", () => monitor.startContainer(id));
    } catch (error) {
      throw startError(node, container, error);
    }
    recordStart(node, container, started);
  };
  return node.serial.run(id, async () => {
    await startProgram().finally(end);
    await runLaterHooks(node, "poststart", container.record, container.pid);
  });
}

/** A program that has ended already was recorded with its start. */
export function recordStart(node: SandboxNode, container: Container, { startedAt, pid }: ProgramStart): void {
  const { id, podId, phase } = container.record;
  container.startedPid = pid;
  if (phase === "created") {
    if (pid !== 0) container.pid = pid;
    learn(node.store.containers, container, { phase: "running", startedAt: startedAt.toString() });
    node.observer.emit({ type: "container-event", event: "started", podId, containerId: id });
  }
  container.startAwaited?.open();
}

/**
 * Takes over a start that an earlier agent has asked for and did not live to see done: until the monitor tells of it the
 * container is created, and being started, as it was for that agent.
 */
export function awaitStart(node: SandboxNode, container: Container): void {
  const starting = new Latch();
  const awaited = new Latch();
  container.starting = starting;
  container.startAwaited = awaited;
  void node.serial.run(container.record.id, async () => {
    await Promise.race([awaited.wait(Number.POSITIVE_INFINITY), container.ended.wait(Number.POSITIVE_INFINITY)]);
    if (container.starting === starting) container.starting = undefined;
    starting.open();
    if (awaited.isOpen) await runLaterHooks(node, "poststart", container.record, container.pid);
  });
}

function startError(node: SandboxNode, container: Container, error: unknown): Error {
  const { id } = container.record;
  const failure = startFailure(container, error);
  if (failure instanceof BerthError && failure.kind === "UNAVAILABLE") return failure;
  if (isNotRunning(error) && container.ended.isOpen) {
    const why = container.record.message || "its init was killed, or what it shares its processes with has ended";
    return new FailedPreconditionError(`container ${id} has ended before it was started: ${why}`);
  }
  // a monitor of before it could tell that has told no more than the end
  if (container.record.reason === startErrorReason) return failure;
  const now = (BigInt(Date.now()) * 1_000_000n).toString();
  const end = { exitCode: startErrorExitCode, finishedAt: now, reason: startErrorReason, message: failure.message };
  if (container.record.phase === "exited") update(node.store.containers, container, end);
  else finish(node, container, end);
  return failure;
}
