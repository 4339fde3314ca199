/** Failures that may have passed when the same is asked again, and the asking again. */
import { setTimeout as sleep } from "node:timers/promises";
import { BerthError, CancelledError, UnavailableError } from "../../sandbox/errors.js";

/** How long servers are waited for. */
export interface Patience {
  /** without a byte, or with hardly any, for this long, a server is given up */
  stallMs: number;
  /** before something is asked a second time; twice as long before the third, and so on */
  retryMs: number;
  /** who wants to be left alone for longer is not waited for: the caller is told, and may come again by itself */
  longestWaitMs?: number;
}

export const usualPatience: Patience = { stallMs: 30_000, retryMs: 250 };

/** With a server that others can stand in for. */
export function lessPatient(patience: Patience): Patience {
  return { ...patience, longestWaitMs: 3_000 };
}

export class TransientError extends UnavailableError {
  /** the server wants to be left alone for so long; undefined: it has not said */
  readonly afterMs: number | undefined;

  constructor(message: string, options: { cause?: unknown; afterMs?: number | undefined } = {}) {
    super(message, options);
    this.afterMs = options.afterMs;
  }
}

const attempts = 5;
const usualLongestWaitMs = 60_000;

/** Counts failures, and waits between them. */
export class Retries {
  #failed = 0;

  constructor(
    private readonly patience: Patience,
    private readonly signal: AbortSignal,
  ) {}

  /** Something went well in between. */
  reset(): void {
    this.#failed = 0;
  }

  /** Waits until it is time to ask again. @throws the error when that would not help, or has been done too often */
  async after(error: unknown): Promise<void> {
    this.#failed += 1;
    if (!(error instanceof TransientError) || this.#failed >= attempts) throw error;
    const backOffMs = this.patience.retryMs * 2 ** (this.#failed - 1);
    const askedForMs = error.afterMs ?? 0;
    if (askedForMs > (this.patience.longestWaitMs ?? usualLongestWaitMs)) {
      throw new BerthError(
        error.kind,
        `${error.message}; it wants to be asked again in ${Math.ceil(askedForMs / 1000)} s`,
        {
          cause: error,
        },
      );
    }
    // those that failed together must not come again together
    const waitMs = Math.max(askedForMs, backOffMs * (0.75 + Math.random() / 2));
    try {
      await sleep(waitMs, undefined, { signal: this.signal });
    } catch (cause) {
      throw new CancelledError("the pull was cancelled while it waited for the registry", { cause });
    }
  }
}

/** Asks again as long as that may help. */
export async function retried<T>(patience: Patience, signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  const retries = new Retries(patience, signal);
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      await retries.after(error);
    }
  }
}

/**
 * How long a Retry-After header asks to wait, in milliseconds. A date is taken as the server's own clock has it.
 * @param date the Date header of the same answer
 */
export function retryAfterMs(header: string | undefined, date: string | undefined): number | undefined {
  const text = header?.trim() ?? "";
  if (/^[0-9]{1,9}$/.test(text)) return Number(text) * 1000;
  const until = /^[A-Za-z]/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(until)) return undefined;
  const now = Date.parse(date ?? "");
  return Math.max(0, until - (Number.isNaN(now) ? Date.now() : now));
}
