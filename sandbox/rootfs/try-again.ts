/** What kept a deletion from its end (no descriptor was left, a disk was read-only) may be over in a moment. */
const pausesMs = [1_000, 10_000, 60_000, 600_000];

/** @returns false: it was tried often enough, and is left to the next start */
export function tryAgain(tries: number, run: () => void): boolean {
  const pauseMs = pausesMs[tries];
  if (pauseMs === undefined) return false;
  setTimeout(run, pauseMs).unref();
  return true;
}
