import { setTimeout as sleep } from "node:timers/promises";
import type { LogLine } from "./log-tail.js";

/** Whose lines they are, as the CRI tells it. */
export interface LogSource {
  namespace: string;
  pod: string;
  podUid: string;
  container: string;
  containerId: string;
  /** how often the container was made anew in its pod */
  attempt: number;
}

/** Where lines go. */
export interface Sink {
  /**
   * Waits for as long as the receiver cannot take them, until the sink's signal.
   * @throws SinkRefusal: it will never take them; or the signal's reason
   */
  send(source: LogSource, lines: LogLine[]): Promise<void>;
  close(): Promise<void>;
}

/** The receiver says that these lines are not for it; others may be. */
export class SinkRefusal extends Error {}

const firstWaitMs = 500;
const longestWaitMs = 30_000;

/** Pauses between tries, twice as long each time. */
export class Backoff {
  #ms = firstWaitMs;

  /** @param atLeastMs what the receiver has asked for */
  async wait(signal: AbortSignal, atLeastMs = 0): Promise<void> {
    const ms = Math.max(this.#ms, Math.min(atLeastMs, longestWaitMs));
    this.#ms = Math.min(2 * this.#ms, longestWaitMs);
    await sleep(ms, undefined, { signal });
  }
}
