import type { Container } from "./container.js";
import { FailedPreconditionError, InternalError } from "./errors.js";
import { unlessFrozen } from "./frozen-monitor.js";
import { MonitorStepError, toCallError } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";

/** The monitor opens the container's log file anew, after somebody renamed it. */
export async function reopenLog(node: SandboxNode, container: Container): Promise<void> {
  const { id, podId, phase } = container.record;
  if (phase !== "running") throw new FailedPreconditionError(`container ${id} is ${phase}: its log is not open`);
  try {
    await unlessFrozen(node, podId, node.monitors.get(podId).reopenLog(id));
  } catch (error) {
    const failure = toCallError(error, `the log of container ${id} could not be opened again`);
    // what is at the path is somebody else's doing: its directory is gone, say
    if (!(error instanceof MonitorStepError) || !(failure instanceof InternalError)) throw failure;
    throw new FailedPreconditionError(failure.message, { cause: error });
  }
}
