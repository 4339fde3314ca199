import { CancelledError } from "../../sandbox/errors.js";
import type { Flights } from "../../sandbox/flights.js";

/** Joins a flight; one that all its earlier callers have left, and that ends as cancelled, is started again. */
export async function joinFlight<T>(
  flights: Flights<T>,
  key: string,
  signal: AbortSignal,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await flights.join(key, signal, run);
    } catch (error) {
      if (!(error instanceof CancelledError) || signal.aborted) throw error;
    }
  }
}
