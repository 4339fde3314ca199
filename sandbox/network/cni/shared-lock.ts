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

  /** Runs when everything that came before has settled, and before everything that comes after. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const before = [this.#alone, ...this.#running];
    const run = Promise.all(before).then(work);
    this.#alone = run.catch(() => undefined);
    return run;
  }
}
