import { CancelledError } from "./errors.js";

interface Flight<T> {
  promise: Promise<T>;
  abort: AbortController;
  callers: number;
}

/**
 * Calls in flight, by key. A caller whose key is already in flight joins that call instead of starting another (a kubelet
 * whose deadline passed comes again while the first call still runs); the work is cancelled when all its callers have
 * gone. One that goes while others stay is told at once; the last one is told when the work has come to its end. Who comes
 * between the cancelling and the end has it started again.
 */
export class Flights<T> {
  readonly #flights = new Map<string, Flight<T>>();

  async join(key: string, signal: AbortSignal | undefined, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    for (;;) {
      const flight = this.#flights.get(key) ?? this.#start(key, run);
      try {
        return await this.#share(flight, signal);
      } catch (error) {
        // one that all its earlier callers had left was not given up for this one
        if (!flight.abort.signal.aborted || signal?.aborted) throw error;
      }
    }
  }

  async #share(flight: Flight<T>, signal: AbortSignal | undefined): Promise<T> {
    flight.callers += 1;
    if (signal === undefined) return flight.promise;
    let leave = (): void => undefined;
    const left = new Promise<never>((_, reject) => {
      leave = () => {
        flight.callers -= 1;
        if (flight.callers === 0) flight.abort.abort();
        else reject(new CancelledError("the call was cancelled by its caller"));
      };
    });
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
    try {
      return await Promise.race([flight.promise, left]);
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  /** What runs for a key now; undefined: nothing does. Who waits for it only is none of its callers. */
  running(key: string): Promise<T> | undefined {
    return this.#flights.get(key)?.promise;
  }

  #start(key: string, run: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const abort = new AbortController();
    const promise = run(abort.signal).finally(() => this.#flights.delete(key));
    const flight: Flight<T> = { promise, abort, callers: 0 };
    this.#flights.set(key, flight);
    return flight;
  }
}

/** Between two steps of a call: throws CancelledError when its caller has gone. */
export function checkNotCancelled(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) throw new CancelledError(`${what} was cancelled by its caller`);
}
