/** What the host and the guest say to each other: a plan on the way in, a line of JSON for each record on the way out. */

export interface Plan {
  /** paths in the guest, run one after another */
  tests: string[];
  /** the host's clock when the run began, in milliseconds since 1970 */
  now: number;
}

export type GuestRecord = BootRecord | TestRecord | OutputRecord | EndRecord;

/** The guest reached its runner. */
export interface BootRecord {
  type: "boot";
  kernel: string;
  /** since the kernel started */
  uptimeMs: number;
  cgroupControllers: string[];
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

/** The runner is through and the guest powers off. */
export interface EndRecord {
  type: "end";
}

/** The runner's port, by the name that the host gave it. */
export const resultsPort = "berth.results";
