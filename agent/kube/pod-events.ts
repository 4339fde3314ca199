/** Which happenings of the agent are worth an Event: what only the runtime knows. */
import type { berth } from "../../cri-proto/generated/admin.js";
import type { PodNames } from "../../sandbox/observer.js";
import type { PodEvent } from "./event-sender.js";
import type { KnownPod } from "./pods.js";

type Reason = Pick<PodEvent, "type" | "reason">;

const outOfMemory: Reason = { type: "Warning", reason: "OutOfMemory" };

const reasons: Record<string, Reason> = {
  oom: outOfMemory,
  "log-dropped": { type: "Warning", reason: "LogOutputLost" },
  "seccomp-denied": { type: "Warning", reason: "SeccompDenied" },
  "monitor-lost": { type: "Warning", reason: "PodMonitorLost" },
  repaired: { type: "Normal", reason: "LeakRepaired" },
};

/** The types of happenings to be asked for. */
export const toldTypes = [...Object.keys(reasons), "container-exit", "pull-ended", "trouble"];

export function podEventsOf(happening: berth.v1.Happening, pods: Iterable<KnownPod>): PodEvent[] {
  const { type, message, container_name: container, details } = happening;
  const at = Number(happening.at) / 1e6;
  if (type === "pull-ended") {
    // other bytes than a digest promised; that a registry is away the kubelet tells itself
    if (details["failure"] !== "INTERNAL") return [];
    const waiting = [...pods].filter(({ pending, images }) => pending && images.includes(details["image"] ?? ""));
    return waiting.map((pod) => ({
      pod,
      container: "",
      type: "Warning",
      reason: "ImageContentMismatch",
      message,
      at,
    }));
  }
  const pod: PodNames = { namespace: happening.pod_namespace, name: happening.pod_name, uid: happening.pod_uid };
  const reason = reasonOf(type, details);
  if (reason === undefined || pod.name === "" || pod.namespace === "") return [];
  return [{ pod, container, ...reason, message, at }];
}

function reasonOf(type: string, details: Record<string, string>): Reason | undefined {
  // a container that ends with its first victim has no other happening for it
  if (type === "container-exit") return details["oom_killed"] === "true" ? outOfMemory : undefined;
  return type === "trouble" ? reasonOfTrouble(details) : reasons[type];
}

/** A plugin that fails once and succeeds a second later is no news. */
const stuckAfterAttempts = 3;

/** Only what is counted is a removal that does not come to its end. */
function reasonOfTrouble({ attempts }: Record<string, string>): Reason | undefined {
  if (Number(attempts ?? 0) < stuckAfterAttempts) return undefined;
  return { type: "Warning", reason: "NetworkRemovalStuck" };
}
