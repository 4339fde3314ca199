import type { Container } from "./container.js";
import { FailedPreconditionError } from "./errors.js";
import { unlessFrozen } from "./frozen-monitor.js";
import { closeStreams, isNotRunning, type ProgramStreams, toCallError } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";

/** FailedPreconditionError: the container has ended. */
export function checkAttachable({ record: { id, phase } }: Container): void {
  if (phase !== "created" && phase !== "running") {
    throw new FailedPreconditionError(`container ${id} is ${phase}: there is nothing to attach to`);
  }
}

/** A container's own streams, which are the caller's; see MonitorClient.attach. */
export async function attachToContainer(
  node: SandboxNode,
  container: Container,
  wanted: Record<"stdin" | "stdout" | "stderr", boolean>,
): Promise<ProgramStreams> {
  const { id, podId } = container.record;
  let attached: Promise<ProgramStreams> | undefined;
  try {
    attached = node.monitors.get(podId).attach(id, wanted);
    return await unlessFrozen(node, podId, attached);
  } catch (error) {
    // it may be answered yet
    attached?.then(closeStreams, () => undefined);
    if (isNotRunning(error)) throw new FailedPreconditionError(`container ${id} is not running`, { cause: error });
    throw toCallError(error, `container ${id} cannot be attached to`);
  }
}
