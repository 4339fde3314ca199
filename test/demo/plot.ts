/** A small plot of one value over time, in text. */

export interface Sample {
  /** since the first sample */
  seconds: number;
  value: number;
}

export interface PlotOptions {
  /** drawn as a line of its own */
  limit: number;
  columns: number;
  /** of the part below the limit */
  rows: number;
  /** of the axis */
  format(value: number): string;
}

const eighths = " ▁▂▃▄▅▆▇█";

/** Columns are equal spans of time and show the last value that is known at their end. */
export function plot(samples: readonly Sample[], { limit, columns, rows, format }: PlotOptions): string[] {
  const end = samples.at(-1)?.seconds ?? 0;
  const heights = Array.from({ length: columns }, (_, column) => {
    const time = (end * (column + 1)) / columns;
    const value = samples.findLast(({ seconds }) => seconds <= time + 1e-9)?.value ?? 0;
    return Math.round((Math.min(value, limit) / limit) * rows * 8);
  });
  const labels = Array.from({ length: rows + 1 }, (_, row) => format((limit * row) / rows));
  const margin = Math.max(...labels.map((label) => label.length));
  const lines = [`${(labels[rows] ?? "").padStart(margin)} ┤${"┄".repeat(columns)} limit`];
  for (let row = rows - 1; row >= 0; row--) {
    const cells = heights.map((height) => eighths[Math.max(0, Math.min(8, height - row * 8))]).join("");
    const label = row % 2 === 0 && row > 0 ? (labels[row] ?? "") : "";
    lines.push(`${label.padStart(margin)} ${label === "" ? "│" : "┤"}${cells}`.trimEnd());
  }
  const last = `${end.toFixed(1)} s`;
  lines.push(`${format(0).padStart(margin)} └${"─".repeat(columns)}`);
  lines.push(`${" ".repeat(margin + 2)}0 s${last.padStart(columns - 3)}`);
  return lines;
}
