/** Many at the same time, or one alone: what waits for the lock alone keeps later ones from overtaking it. */
export class SharedLock {
  #running = new Set<Promise<unknown>>();
  #alone: Promise<unknown> = Promise.resolve();
  /** that have the lock alone, or wait for it */
  #askedAlone = 0;
  #hurry = new AbortController();

  /** @param longestWaitMs how long others wait for what runs alone until it is told to come to its end */
  constructor(private readonly longestWaitMs = 5_000) {}

  /** Runs beside others, after everything that asked to be alone before. */
  async shared<T>(work: () => Promise<T>): Promise<T> {
    const waited = this.#askedAlone > 0 ? setTimeout(() => this.#hurry.abort(), this.longestWaitMs) : undefined;
    const run = this.#alone.then(() => {
      clearTimeout(waited);
      return work();
    });
    const settled = run.catch(() => undefined);
    this.#running.add(settled);
    try {
      return await run;
    } finally {
      this.#running.delete(settled);
    }
  }

  /**
   * Runs when everything that came before has settled, and before everything that comes after. False: not all had settled
   * after `patienceMs`; then it does not run, and what came after goes on. The signal: others have waited too long for it.
   */
  async alone(work: (hurry: AbortSignal) => Promise<void>, patienceMs: number): Promise<boolean> {
    const earlier = this.#alone;
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), patienceMs);
    });
    const quiet = Promise.all([earlier, ...this.#running]).then(() => true);
    this.#askedAlone++;
    const run = Promise.race([quiet, over])
      .then(async (isQuiet) => {
        clearTimeout(timer);
        if (!isQuiet) return false;
        this.#hurry = new AbortController();
        await work(this.#hurry.signal);
        return true;
      })
      .finally(() => this.#askedAlone--);
    // one that was not waited for may still be at it
    this.#alone = Promise.all([earlier, run.catch(() => undefined)]);
    return run;
  }
}
