import { setTimeout as sleep } from "node:timers/promises";

/** A server that asks for more is asked again all the same. */
const longestAskedMs = 5 * 60_000;

/** Pauses that double, with up to half of each left to chance: nodes must not come back all at once. */
export class BackOff {
  #nextMs: number;

  constructor(
    private readonly firstMs: number,
    private readonly longestMs: number,
  ) {
    this.#nextMs = firstMs;
  }

  /**
   * Back at once, without an error, when the signal says so.
   * @param cause a server may say in it how long it wants to be left alone
   */
  async pause(signal: AbortSignal, cause?: unknown): Promise<void> {
    const asked = Math.min((cause as { afterMs?: number } | undefined)?.afterMs ?? 0, longestAskedMs);
    const ms = asked + this.#nextMs * (0.5 + Math.random() / 2);
    this.#nextMs = Math.min(this.#nextMs * 2, this.longestMs);
    await sleep(ms, undefined, { signal }).catch(() => undefined);
  }

  reset(): void {
    this.#nextMs = this.firstMs;
  }
}
