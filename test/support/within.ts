import assert from "node:assert/strict";

/**
 * Asserts that something takes between the two times (milliseconds). The upper one is a promise of the runtime's, which a busy
 * machine breaks now and then for reasons of its own: one of five tries must keep it, and all of them the lower one.
 */
export async function takesBetween(leastMs: number, mostMs: number, run: () => Promise<void>): Promise<void> {
  const took: number[] = [];
  while (took.length < 5) {
    const begun = performance.now();
    await run();
    const tookMs = performance.now() - begun;
    assert.ok(tookMs >= leastMs, `${tookMs} ms, less than ${leastMs}`);
    if (tookMs < mostMs) return;
    took.push(Math.round(tookMs));
  }
  assert.fail(`${took.join(", ")} ms, none less than ${mostMs}`);
}
