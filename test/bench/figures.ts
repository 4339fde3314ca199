/** The figures of `npm run bench`: their names, their targets (docs/performance.md) and how they are printed. */
export interface Figure {
  name: string;
  unit: string;
  value: number;
  /** what Berth has to reach; absent: for comparison only */
  target?: number;
  /** throughputs: more is better */
  atLeast?: boolean;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

/** Milliseconds that `work` took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = process.hrtime.bigint();
  await work();
  return Number(process.hrtime.bigint() - begun) / 1e6;
}

/** A table: Berth's figures with their targets, and another runtime's beside them when there are some. */
export function printFigures(ours: readonly Figure[], theirs: ReadonlyMap<string, number>, theirName: string): void {
  const rows = ours.map(({ name, unit, value, target, atLeast }) => [
    name,
    `${format(value)} ${unit}`,
    target === undefined ? "" : `${atLeast ? "≥" : "≤"} ${target} ${unit}`,
    target === undefined ? "" : (atLeast ? value >= target : value <= target) ? "reached" : "NOT reached",
    theirs.has(name) ? `${format(theirs.get(name) ?? Number.NaN)} ${unit}` : "",
  ]);
  const head = ["figure (median unless said)", "here", "target", "", theirs.size > 0 ? theirName : ""];
  const widths = head.map((title, column) => Math.max(...[head, ...rows].map((row) => (row[column] ?? title).length)));
  for (const row of [head, ...rows]) {
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  }
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
