/** Many at the same time, or one alone: what waits for the lock alone keeps later ones from overtaking it. */
export class SharedLock {
  #running = new Set<Promise<unknown>>();
  #alone: Promise<unknown> = Promise.resolve();

  /** Runs beside others, after everything that asked to be alone before. */
  async shared<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#alone.then(work);
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
   * after `patienceMs`; then it does not run, and what came after goes on.
   */
  async alone(work: () => Promise<void>, patienceMs: number): Promise<boolean> {
    const earlier = this.#alone;
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), patienceMs);
    });
    const quiet = Promise.all([earlier, ...this.#running]).then(() => true);
    const run = Promise.race([quiet, over]).then(async (isQuiet) => {
      clearTimeout(timer);
      if (isQuiet) await work();
      return isQuiet;
    });
    // one that was not waited for may still be at it
    this.#alone = Promise.all([earlier, run.catch(() => undefined)]);
    return run;
  }
}
