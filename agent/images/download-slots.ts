/** How many blobs are read from one registry at a time, over all pulls: more would not be faster, and is not welcome. */
import { CancelledError } from "../../sandbox/errors.js";

const slotsOfEach = 6;
/**
 * A download whose callers have left it to a prefetch is paused, and keeps its slot. So that a pull never waits for what
 * waits for it, a slot is asked for, and not insisted on.
 */
const longestWaitMs = 60_000;

export class DownloadSlots {
  readonly #taken = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(
    private readonly slots: number = slotsOfEach,
    private readonly waitMs: number = longestWaitMs,
  ) {}

  /** Reads the source as soon as there is a slot for the registry, first come, first served. */
  async *holding<T>(registry: string, signal: AbortSignal, open: () => AsyncIterable<T>): AsyncGenerator<T> {
    if ((this.#taken.get(registry) ?? 0) >= this.slots) await this.#turn(registry, signal);
    if (signal.aborted) throw new CancelledError(`the download from ${registry} was cancelled`);
    this.#taken.set(registry, (this.#taken.get(registry) ?? 0) + 1);
    try {
      yield* open();
    } finally {
      const left = (this.#taken.get(registry) ?? 0) - 1;
      if (left > 0) this.#taken.set(registry, left);
      else this.#taken.delete(registry);
      if (left < this.slots) this.#waiting.get(registry)?.[0]?.();
    }
  }

  /** Resolves when it is this one's turn, when it has waited for too long, or with the signal. */
  #turn(registry: string, signal: AbortSignal): Promise<void> {
    const queue = this.#waiting.get(registry) ?? [];
    this.#waiting.set(registry, queue);
    return new Promise((resolve) => {
      const go = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", go);
        queue.splice(queue.indexOf(go), 1);
        if (queue.length === 0) this.#waiting.delete(registry);
        resolve();
      };
      const timer = setTimeout(go, this.waitMs);
      queue.push(go);
      if (signal.aborted) go();
      else signal.addEventListener("abort", go, { once: true });
    });
  }
}
