import type { Container } from "./container.js";
import { checkContainerTransition } from "./container.js";
import { finish } from "./container-end.js";
import { BerthError, FailedPreconditionError } from "./errors.js";
import { fieldsOfContainer } from "./field-of-step.js";
import { runLaterHooks } from "./hooks/container-hooks.js";
import { Latch } from "./latch.js";
import { isNotRunning, toCallError } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import { update } from "./store.js";

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
    let started: { startedAt: bigint; pid: number };
    try {
      started = await node.observer.step("start-container", "exec", () => monitor.startContainer(id));
    } catch (error) {
      throw startError(node, container, error);
    }
    container.startedPid = started.pid;
    // a program that has ended already was recorded, with its start, before the answer came
    if (!container.ended.isOpen) {
      if (started.pid !== 0) container.pid = started.pid;
      update(node.store.containers, container, { phase: "running", startedAt: started.startedAt.toString() });
      node.observer.emit({ type: "container-event", event: "started", podId, containerId: id });
    }
  };
  return node.serial.run(id, async () => {
    await startProgram().finally(end);
    await runLaterHooks(node, "poststart", container.record, container.pid);
  });
}

function startError(node: SandboxNode, container: Container, error: unknown): Error {
  const { id } = container.record;
  const failure = toCallError(error, `container ${id} could not be started`, fieldsOfContainer(container.config));
  if (failure instanceof BerthError && failure.kind === "UNAVAILABLE") return failure;
  if (isNotRunning(error) && container.ended.isOpen) {
    const why = container.record.message || "its init was killed, or what it shares its processes with has ended";
    return new FailedPreconditionError(`container ${id} has ended before it was started: ${why}`);
  }
  const now = (BigInt(Date.now()) * 1_000_000n).toString();
  const end = { exitCode: startErrorExitCode, finishedAt: now, reason: "StartError", message: failure.message };
  if (container.record.phase === "exited") update(node.store.containers, container, end);
  else finish(node, container, end);
  return failure;
}
