/** A monitor that somebody has frozen with its pod answers nobody. */
import { frozenAt } from "./cgroup/freezer.js";
import { FailedPreconditionError } from "./errors.js";
import type { SandboxNode } from "./node.js";
import { isFrozenWith } from "./thaw-pod.js";

/** A healthy monitor has answered by then, unless the call is one that takes its time: then it is not frozen. */
const lookEveryMs = 5_000;

/** "is frozen with cgroup ...": the rest of a sentence that begins with the pod's monitor. Undefined: it runs. */
export function whyMonitorIsFrozen(node: SandboxNode, podId: string): string | undefined {
  const pod = node.pods.find(podId);
  const frozen = pod && frozenAt(node.cgroups.hierarchies, pod.record.monitorCgroup);
  return frozen && isFrozenWith(frozen);
}

/**
 * The monitor's answer. FailedPreconditionError: it does not come, because the monitor is frozen; what was asked for is
 * done when it goes on, and the caller must see to what comes of it then.
 */
export async function unlessFrozen<Answer>(node: SandboxNode, podId: string, answer: Promise<Answer>): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined;
  const frozen = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      const why = whyMonitorIsFrozen(node, podId);
      if (why !== undefined) reject(new FailedPreconditionError(`the monitor of pod sandbox ${podId} ${why}`));
    }, lookEveryMs);
  });
  try {
    return await Promise.race([answer, frozen]);
  } finally {
    clearInterval(timer);
  }
}
