/**
 * The steps that take back what a half-done operation made. Each is pushed right after its "do", with a line that says
 * what it takes back; when the operation fails they run in reverse, all of them, whatever one of them says.
 */
export class Undo {
  readonly #steps: { what: string; run: () => unknown }[] = [];

  push(what: string, run: () => unknown): void {
    this.#steps.push({ what, run });
  }

  /** Forgets the steps: the operation succeeded. */
  commit(): void {
    this.#steps.length = 0;
  }

  /** Runs the steps, the newest first; answers those that failed. */
  async run(): Promise<{ what: string; error: unknown }[]> {
    const failed: { what: string; error: unknown }[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.run();
      } catch (error) {
        failed.push({ what: step.what, error });
      }
    }
    return failed;
  }
}
