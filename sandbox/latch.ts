/** A thing that happens once, and that any number of callers may wait for. */
export class Latch {
  #open = false;
  readonly #waiters = new Set<() => void>();

  get isOpen(): boolean {
    return this.#open;
  }

  open(): void {
    this.#open = true;
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }

  /** True when it opened, false when `timeoutMs` (Infinity: no limit) or the signal came first. */
  wait(timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    if (this.#open) return Promise.resolve(true);
    if (timeoutMs <= 0 || signal?.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      // setTimeout takes at most 2^31-1 ms; a grace period of more than 24 days waits that long
      const timer = Number.isFinite(timeoutMs)
        ? setTimeout(() => settle(false), Math.min(timeoutMs, 0x7fffffff))
        : null;
      const wake = () => settle(true);
      const abort = () => settle(false);
      const settle = (opened: boolean) => {
        if (timer !== null) clearTimeout(timer);
        this.#waiters.delete(wake);
        signal?.removeEventListener("abort", abort);
        resolve(opened);
      };
      this.#waiters.add(wake);
      signal?.addEventListener("abort", abort, { once: true });
    });
  }
}
