import type { Log } from "../log.js";

/** Objects that a server sends may each be wrong in a way of its own. */
const mostStanding = 1_000;

/** Troubles that last are said once, and once more when they are over. */
export class Said {
  readonly #standing = new Map<string, string>();

  constructor(private readonly log: Pick<Log, "warn" | "info">) {}

  /** @param about what it is said once for, until it is over or another sentence is true */
  trouble(about: string, sentence: string): void {
    if (this.#standing.get(about) === sentence) return;
    if (this.#standing.size >= mostStanding) this.#standing.clear();
    this.#standing.set(about, sentence);
    this.log.warn(sentence);
  }

  over(about: string, sentence: string): void {
    if (this.#standing.delete(about)) this.log.info(sentence);
  }
}
