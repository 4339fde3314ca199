import { setTimeout as sleep } from "node:timers/promises";

/** Pauses that double, with up to half of each left to chance: nodes must not come back all at once. */
export class BackOff {
  #nextMs: number;

  constructor(
    private readonly firstMs: number,
    private readonly longestMs: number,
  ) {
    this.#nextMs = firstMs;
  }

  /** Back at once, without an error, when the signal says so. */
  async pause(signal: AbortSignal): Promise<void> {
    const ms = this.#nextMs * (0.5 + Math.random() / 2);
    this.#nextMs = Math.min(this.#nextMs * 2, this.longestMs);
    await sleep(ms, undefined, { signal }).catch(() => undefined);
  }

  reset(): void {
    this.#nextMs = this.firstMs;
  }
}
