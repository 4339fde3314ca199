/** What commands print. */
import type Long from "long";

/**
 * Without what would steer a terminal: control characters, and those that turn the direction of writing. Names, histories
 * and sentences come from images and registries, too.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, (control) => (/[\t\n]/.test(control) ? control : "\ufffd"));
}

/** Columns as wide as their widest cell. */
export function printTable(header: readonly string[], cells: readonly (readonly string[])[]): void {
  const rows = cells.map((row) => row.map((cell) => printable(cell).replace(/[\t\n]/g, " ")));
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of [header, ...rows]) {
    const line = row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ");
    process.stdout.write(`${line.trimEnd()}\n`);
  }
}

export function printJson(value: unknown): void {
  process.stdout.write(`${printable(JSON.stringify(value, null, 2))}\n`);
}

/** How messages look as JSON: the wire's names, numbers as they are read, 64-bit ones as strings. */
export const jsonOptions = { longs: String, enums: String, bytes: String, defaults: true } as const;

export function shortId(id: string): string {
  return id.replace("sha256:", "").slice(0, 12);
}

/** "3 minutes ago", from nanoseconds since the epoch. */
export function ago(time: Long): string {
  const seconds = Math.max(0, Math.round((Date.now() - time.toNumber() / 1e6) / 1000));
  for (const [unit, length] of [
    ["day", 86_400],
    ["hour", 3_600],
    ["minute", 60],
  ] as const) {
    const count = Math.floor(seconds / length);
    if (count > 0) return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
  }
  return `${seconds} s ago`;
}

/** "12.3 MB" */
export function megabytes(bytes: Long): string {
  return `${(bytes.toNumber() / 1e6).toFixed(1)} MB`;
}
