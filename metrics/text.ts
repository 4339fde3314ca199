/**
 * The text formats that Prometheus reads. Here are only the numbers gathered, a table for each kind of rows, and that in
 * slices: the lines are written by the addon on a thread of its own.
 */
import { setImmediate } from "node:timers/promises";
import { native, type SeriesTable, type SeriesText } from "../native/binding.js";
import { type Column, families, type Kind, kinds } from "./families.js";
import type { Instrument } from "./instruments.js";
import type { Subject } from "./subjects.js";

/** For how long the event loop is kept at a time. */
const sliceMs = 1;

/** The columns of each kind's table, in the families' order. */
const columnsOf: ReadonlyMap<Kind<unknown>, readonly Column<unknown>[]> = new Map(
  kinds.map((kind) => [kind, families.flatMap((family) => (family.kind === kind ? family.columns : []))]),
);

/** A little more than the addon writes at a time. */
const pieceBytes = (256 + 16) << 10;

export interface TextFormat {
  /** OpenMetrics' instead of Prometheus' own */
  openMetrics: boolean;
  gzip: boolean;
}

/**
 * In pieces, `rest` at the end. All come in the same memory, which the next one that is asked for writes over: an answer
 * of some megabytes would else be garbage of that size, and the collector comes for it each time.
 */
export async function* writeText(
  subjects: readonly Subject[],
  labels: (subject: Subject) => string,
  rest: () => Promise<string>,
  { openMetrics, gzip }: TextFormat,
): AsyncGenerator<Buffer> {
  const writing = seriesText(openMetrics).write(await tablesOf(subjects, labels), gzip);
  const memory = Buffer.allocUnsafeSlow(pieceBytes);
  let isLast = false;
  while (!isLast) {
    let left = await writing.next();
    isLast = left === 0;
    if (isLast) left = await writing.finish(await rest());
    while (left > 0) {
      const length = writing.take(memory);
      left -= length;
      yield memory.subarray(0, length);
    }
  }
}

async function tablesOf(subjects: readonly Subject[], labels: (subject: Subject) => string): Promise<SeriesTable[]> {
  const tables: SeriesTable[] = [];
  let begun = performance.now();
  for (const kind of kinds) {
    const columns = columnsOf.get(kind) ?? [];
    const width = columns.length;
    const table: SeriesTable = { labels: [], values: new Float64Array(subjects.length * width), width };
    for (const [index, subject] of subjects.entries()) {
      for (const row of kind.rows(subject)) addRow(table, columns, row, rowLabels(kind, labels(subject), row));
      if (index % 32 !== 31 || performance.now() - begun < sliceMs) continue;
      await setImmediate();
      begun = performance.now();
    }
    table.values = table.values.subarray(0, table.labels.length * width);
    tables.push(table);
  }
  return tables;
}

function addRow(table: SeriesTable, columns: readonly Column<unknown>[], row: unknown, labels: string): void {
  let at = table.labels.push(labels) * table.width - table.width;
  if (at + table.width > table.values.length) {
    const larger = new Float64Array(Math.max(64 * table.width, table.values.length * 2));
    larger.set(table.values);
    table.values = larger;
  }
  for (const column of columns) table.values[at++] = column.value(row) ?? Number.NaN;
}

function rowLabels(kind: Kind<unknown>, subject: string, row: unknown): string {
  return kind.labels.length === 0 ? subject : `${subject}${furtherLabels(kind.labels, kind.label(row))}`;
}

const writers = new Map<boolean, SeriesText>();

function seriesText(openMetrics: boolean): SeriesText {
  let writer = writers.get(openMetrics);
  if (writer !== undefined) return writer;
  const used = new Map(kinds.map((kind) => [kind, 0]));
  writer = native.openSeriesText(
    families.map((family) => {
      const first = used.get(family.kind) ?? 0;
      used.set(family.kind, first + family.columns.length);
      return {
        heading: heading(family, openMetrics),
        name: family.name,
        table: kinds.indexOf(family.kind),
        columns: family.columns.map(({ labels }, index) => ({
          column: first + index,
          labels: furtherLabels(family.columnLabels, labels),
        })),
      };
    }),
  );
  writers.set(openMetrics, writer);
  return writer;
}

/** OpenMetrics' counters are called without the _total that their series have; what lacks it is none. */
export function heading({ name, help, type }: Instrument, openMetrics: boolean): string {
  const total = name.endsWith("_total");
  const called = openMetrics && total ? name.slice(0, -"_total".length) : name;
  const known = openMetrics && type === "counter" && !total ? "unknown" : type;
  return `# HELP ${called} ${help}\n# TYPE ${called} ${known}\n`;
}

/** `name="value",...`, without braces. */
export function labelText(names: readonly string[], values: readonly string[]): string {
  return names.map((name, index) => `${name}="${escaped(values[index] ?? "")}"`).join(",");
}

function furtherLabels(names: readonly string[], values: readonly string[]): string {
  return names.length === 0 ? "" : `,${labelText(names, values)}`;
}

/** The format has no word for NUL, and neither readers nor the addon take it as it is. */
function escaped(value: string): string {
  if (!/["\\\n\0]/.test(value)) return value;
  return value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"').replaceAll("\0", "\ufffd");
}
