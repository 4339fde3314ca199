/** What an agent has done last: for `berth debug events`, crash reports and `berth export-support`. */
import type { berth as proto } from "../cri-proto/generated/admin.js";
import type { FinishedCallLine } from "./recent-calls.js";
import type { Runtime } from "./runtime.js";

export interface RecentActivity {
  running: Omit<FinishedCallLine, "code">[];
  calls: FinishedCallLine[];
  events: EventLine[];
}

interface EventLine {
  /** ISO 8601 */
  at: string;
  type: string;
  severity: string;
  message: string;
  /** the id of the call in which it happened */
  request?: string;
  pod?: string;
  container?: string;
}

export function recentActivity({
  recentCalls,
  happenings,
}: Pick<Runtime, "recentCalls" | "happenings">): RecentActivity {
  return {
    running: recentCalls.running(),
    calls: recentCalls.finished(),
    events: happenings.remembered().map(lineOf),
  };
}

function lineOf({
  at,
  type,
  severity,
  message,
  request_id,
  pod_sandbox_id,
  container_id,
}: proto.v1.IHappening): EventLine {
  return {
    at: new Date(Number(BigInt(String(at ?? 0)) / 1_000_000n)).toISOString(),
    type: type ?? "",
    severity: severity ?? "",
    message: message ?? "",
    ...(request_id && { request: request_id }),
    ...(pod_sandbox_id && { pod: pod_sandbox_id }),
    ...(container_id && { container: container_id }),
  };
}
