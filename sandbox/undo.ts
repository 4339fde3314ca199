/**
 * The steps that take back what a half-done operation made. Each is pushed right after its "do", with a line that says
 * what it takes back; when the operation fails they run in reverse, all of them, whatever one of them says. Only what is
 * known of the whole stays when something could not be taken back: whoever knows of it can try again.
 */
export class Undo {
  readonly #steps: { what: string; run: () => unknown; forgets: boolean }[] = [];

  push(what: string, run: () => unknown): void {
    this.#steps.push({ what, run, forgets: false });
  }

  /** A step after which nobody knows any more of what was made: it is left out when one before it has failed. */
  pushForgetting(what: string, run: () => unknown): void {
    this.#steps.push({ what, run, forgets: true });
  }

  /** Forgets the steps: the operation succeeded. */
  commit(): void {
    this.#steps.length = 0;
  }

  /** Runs the steps, the newest first; answers those that failed. */
  async run(): Promise<{ what: string; error: unknown }[]> {
    const failed: { what: string; error: unknown }[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      if (step.forgets && failed.length > 0) continue;
      try {
        await step.run();
      } catch (error) {
        failed.push({ what: step.what, error });
      }
    }
    return failed;
  }
}

/**
 * Two steps at the same time. Waits for both, also when one fails, so that nothing is still being made when its undo
 * begins; then the first failure is thrown.
 */
export async function together<A, B>(first: () => Promise<A> | A, second: () => Promise<B> | B): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([(async () => first())(), (async () => second())()]);
  if (a.status === "rejected") throw a.reason;
  if (b.status === "rejected") throw b.reason;
  return [a.value, b.value];
}
