/** What URLs of the streaming server stand for: each can be used once, and not for long. */
import { randomBytes } from "node:crypto";
import { ResourceExhaustedError } from "../../sandbox/errors.js";

const tokenBytes = 16;
const lifeMs = 60_000;
/** Of clients that ask for streams and never open them. */
const mostTokens = 1_000;

export class Tokens<T> {
  readonly #issued = new Map<string, { value: T; expires: number }>();

  /** @param now milliseconds that only grow */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** ResourceExhaustedError: too many are waiting to be used. */
  issue(value: T): string {
    this.#forgetExpired();
    if (this.#issued.size >= mostTokens) {
      throw new ResourceExhaustedError(`${mostTokens} streams were asked for and not opened; try again in a minute`);
    }
    const token = randomBytes(tokenBytes).toString("base64url");
    this.#issued.set(token, { value, expires: this.now() + lifeMs });
    return token;
  }

  /** undefined: it was never issued, was used, or has expired. It cannot be used again. */
  take(token: string): T | undefined {
    this.#forgetExpired();
    const found = this.#issued.get(token);
    this.#issued.delete(token);
    return found?.value;
  }

  #forgetExpired(): void {
    // in the order in which they were issued
    for (const [token, { expires }] of this.#issued) {
      if (expires > this.now()) return;
      this.#issued.delete(token);
    }
  }
}
