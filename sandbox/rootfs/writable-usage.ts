/** What containers have written: the last figures, and newer ones in the background. */
import { setTimeout as pause } from "node:timers/promises";
import type { TreeUsage } from "./paced-walks.js";

export interface DiskUsage extends TreeUsage {
  /** nanoseconds since the epoch: when it was measured */
  timestamp: bigint;
}

/** Figures younger than this are not measured anew. */
const freshMs = 10_000;
/** How long a caller waits for newer figures: most are there in less than one. */
const patienceMs = 50;

interface Known {
  usage: DiskUsage | undefined;
  measuredAtMs: number;
  measuring: Promise<unknown> | undefined;
}

export class WritableUsage {
  readonly #known = new Map<string, Known>();
  readonly #measure: (containerId: string) => Promise<TreeUsage>;

  /** @param measure rejects when the container has written nothing because it is not there (any more) */
  constructor(measure: (containerId: string) => Promise<TreeUsage>) {
    this.#measure = measure;
  }

  /** Undefined: nobody knows yet. @throws what measuring throws */
  async of(containerId: string): Promise<DiskUsage | undefined> {
    const known = this.#known.get(containerId) ?? { usage: undefined, measuredAtMs: -freshMs, measuring: undefined };
    this.#known.set(containerId, known);
    if (performance.now() - known.measuredAtMs >= freshMs) {
      known.measuring ??= this.#refresh(containerId, known);
      await Promise.race([known.measuring, pause(patienceMs, undefined, { ref: false })]);
    }
    return known.usage;
  }

  forget(containerId: string): void {
    this.#known.delete(containerId);
  }

  async #refresh(containerId: string, known: Known): Promise<void> {
    const measuredAtMs = performance.now();
    const timestamp = BigInt(Date.now()) * 1_000_000n;
    try {
      const usage = await this.#measure(containerId);
      known.usage = { ...usage, timestamp };
      known.measuredAtMs = measuredAtMs;
    } catch (error) {
      // a failure is not remembered
      this.#known.delete(containerId);
      throw error;
    } finally {
      known.measuring = undefined;
    }
  }
}
