/**
 * Images that will be wanted later: pulled at low priority, no faster than a limit, and not while anybody waits for
 * another pull; what unpacks them is nice. A layer that such a pull wants too comes at full speed at once.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CancelledError } from "../../sandbox/errors.js";
import type { ImageRecord } from "./image-store.js";
import type { PullRequest } from "./pull.js";
import type { RunningPulls } from "./running-pulls.js";
import type { Pace } from "./transfers.js";

export interface PrefetchRequest extends Omit<PullRequest, "pace"> {
  /** of compressed layers, all of the image's together; absent: as fast as it goes */
  bytesPerSecond?: number;
}

/** @throws as a pull does */
export async function prefetchImage(
  pulls: RunningPulls,
  pull: (request: PullRequest) => Promise<ImageRecord>,
  { bytesPerSecond, ...request }: PrefetchRequest,
): Promise<ImageRecord> {
  const signal = request.signal ?? new AbortController().signal;
  await pulls.quiet(signal);
  if (signal.aborted) throw new CancelledError(`the prefetch of ${request.reference} was cancelled`);
  return pull({ ...request, signal, pace: openPace(pulls, bytesPerSecond ?? Number.POSITIVE_INFINITY) });
}

/** A bucket that holds a twentieth of a second: a limit that was not used for a while is not made up for. */
export function openPace(pulls: Pick<RunningPulls, "busy" | "quiet">, bytesPerSecond: number): Pace {
  const bucketMs = 50;
  // when all that was admitted has been paid for, on performance.now()'s clock
  let paidAt = 0;
  return {
    async admit(bytes, letGo) {
      paidAt = Math.max(paidAt, performance.now() - bucketMs) + (bytes / bytesPerSecond) * 1000;
      const waitMs = paidAt - performance.now();
      // the rejection of an aborted sleep is what lets go
      if (waitMs > 0) await sleep(waitMs, undefined, { signal: letGo }).catch(() => undefined);
      if (pulls.busy) await pulls.quiet(letGo);
    },
  };
}
