import type { Container } from "./container.js";
import { FailedPreconditionError } from "./errors.js";
import { unlessFrozen } from "./frozen-monitor.js";
import { toCallError } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";

/** The monitor opens the container's log file anew, after somebody renamed it. */
export async function reopenLog(node: SandboxNode, container: Container): Promise<void> {
  const { id, podId, phase } = container.record;
  if (phase !== "running") throw new FailedPreconditionError(`container ${id} is ${phase}: its log is not open`);
  try {
    await unlessFrozen(node, podId, node.monitors.get(podId).reopenLog(id));
  } catch (error) {
    throw toCallError(error, `the log of container ${id} could not be opened again`);
  }
}
