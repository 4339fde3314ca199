/** What `berth events` can be asked for by type. */
import type { Happening } from "../sandbox/observer.js";

/** Measurements, and beginnings whose end is told: see describe-happening.ts. */
type NotTold = "step" | "pull-begun" | "pull-bytes" | "record-written";

const told: Record<Exclude<Happening["type"], NotTold>, true> = {
  "container-event": true,
  "pod-event": true,
  "container-exit": true,
  oom: true,
  "seccomp-denied": true,
  "log-dropped": true,
  "exec-output-cut": true,
  "monitor-lost": true,
  "pull-ended": true,
  repaired: true,
  restored: true,
  adjusted: true,
  limitation: true,
  condition: true,
  trouble: true,
};

export const happeningTypes: readonly string[] = Object.keys(told);
