/**
 * What the guest and the host say to each other over the virtio port, a line of JSON each. The guest sends records; each
 * "ready" is answered by one order.
 */

export type GuestRecord = BootRecord | ReadyRecord | TestRecord | OutputRecord | EndRecord;

/** What the host answers: the path of a test file in the guest with variables for it, or that there are no more. */
export type Order = { run: string; settings: Record<string, string> } | { end: true };

/** The guest reached its runner. */
export interface BootRecord {
  type: "boot";
  kernel: string;
  /** since the kernel started */
  uptimeMs: number;
  /** version and controllers */
  cgroups: string;
}

/** The guest has nothing to do. */
export interface ReadyRecord {
  type: "ready";
}

/** One test has ended; a file that could not be loaded counts as a failed test, and so does a suite's own hook. */
export interface TestRecord {
  type: "test";
  file: string;
  /** names of the suites around it, then its own */
  name: string[];
  result: "passed" | "failed" | "skipped";
  durationMs: number;
  /** of a skip */
  reason?: string;
  /** of a failure: message, stack, expected and actual */
  error?: string;
}

/** What a test file printed on stderr or stdout. */
export interface OutputRecord {
  type: "output";
  file: string;
  text: string;
}

/** The guest was told that there are no more tests, and powers off. */
export interface EndRecord {
  type: "end";
}

/** The port's name. */
export const resultsPort = "berth.results";
