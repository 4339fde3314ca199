/** What is told to one who listens: a queue of bounded length between who tells and who takes. */
import { once } from "node:events";

export class Subscription<T> {
  readonly #waiting: T[] = [];
  readonly #changed = new EventTarget();
  #failure: Error | undefined;

  /** @param mostWaiting so many may wait to be taken */
  constructor(private readonly mostWaiting: number) {}

  /** False: it is full. */
  push(item: T): boolean {
    if (this.#waiting.length >= this.mostWaiting) return false;
    this.#waiting.push(item);
    this.#changed.dispatchEvent(new Event("changed"));
    return true;
  }

  /** What waits is dropped. */
  fail(error: Error): void {
    this.#failure = error;
    this.#waiting.length = 0;
    this.#changed.dispatchEvent(new Event("changed"));
  }

  /** @throws what it was failed with; AbortError with the signal */
  async next(signal: AbortSignal): Promise<T> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const item = this.#waiting.shift();
      if (item !== undefined) return item;
      await once(this.#changed, "changed", { signal });
    }
  }
}
