/** Makes again what other programs take away: soon, but not more often than makes sense when they do it time and again. */
export class Restorer {
  readonly #restore: () => Promise<boolean>;
  readonly #onRestored: (what: string) => void;
  readonly #missing = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #doneAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: {
    /** makes everything again; false: it could not be made, and is tried again. Never rejects */
    restore: () => Promise<boolean>;
    onRestored: (what: string) => void;
  }) {
    this.#restore = options.restore;
    this.#onRestored = options.onRestored;
  }

  /** `what`: the bridge, or the table. Several that are missed within the pause are made together. */
  missed(what: string): void {
    this.#missing.add(what);
    this.#start();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #start(): void {
    if (this.#timer !== undefined || this.#closed) return;
    // whoever has flushed the tables may be writing its own at this moment
    const pauseMs = Math.max(20, this.#doneAt + 1_000 - performance.now());
    this.#timer = setTimeout(() => void this.#run(), pauseMs).unref();
  }

  async #run(): Promise<void> {
    const missing = [...this.#missing];
    this.#missing.clear();
    const done = await this.#restore();
    this.#timer = undefined;
    this.#doneAt = performance.now();
    for (const what of missing) {
      if (done) this.#onRestored(what);
      else this.#missing.add(what);
    }
    if (this.#missing.size > 0) this.#start();
  }
}
