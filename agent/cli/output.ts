/** What commands print. */
import type Long from "long";

/**
 * Without what would steer a terminal: control characters, and those that turn the direction of writing. Names, histories
 * and sentences come from images and registries, too.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, (control) => (/[\t\n]/.test(control) ? control : "\ufffd"));
}

const styles = { bold: [1, 22], red: [31, 39], green: [32, 39], yellow: [33, 39] } as const;
export type Style = keyof typeof styles;

/** On a terminal, unless its user does not want it (no-color.org). */
export function paint(text: string, style: Style | undefined): string {
  const { NO_COLOR = "", TERM } = process.env;
  if (style === undefined || !process.stdout.isTTY || NO_COLOR !== "" || TERM === "dumb") return text;
  const [on, off] = styles[style];
  return `\u001b[${on}m${text}\u001b[${off}m`;
}

/** Of cells that are such a word. */
const stylesOfWords: Readonly<Record<string, Style>> = {
  ready: "green",
  running: "green",
  "not ready": "yellow",
  exited: "yellow",
  perhaps: "yellow",
  warning: "yellow",
  error: "red",
};

export function styleOfWord(word: string): Style | undefined {
  return Object.hasOwn(stylesOfWords, word) ? stylesOfWords[word] : undefined;
}

/** Columns as wide as their widest cell. */
export function printTable(header: readonly string[], cells: readonly (readonly string[])[]): void {
  const rows = cells.map((row) => row.map((cell) => printable(cell).replace(/[\t\n]/g, " ")));
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of [header, ...rows]) {
    const last = row.findLastIndex((cell) => cell !== "");
    const cells = row.slice(0, last + 1).map((cell, column) => {
      const padded = column === last ? cell.trimEnd() : cell.padEnd(widths[column] ?? 0);
      return paint(padded, row === header ? "bold" : styleOfWord(cell));
    });
    process.stdout.write(`${cells.join("  ")}\n`);
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
