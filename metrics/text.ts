/**
 * The text formats that Prometheus reads. Here are only the numbers gathered, rows of a table for each kind, and that in
 * slices: the lines are written by the addon on a thread of its own.
 */
import { setImmediate } from "node:timers/promises";
import { native, type SeriesText } from "../native/binding.js";
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
  const writing = seriesText(openMetrics).write(gzip);
  await giveRows(writing, subjects, labels);
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

/** A turn of the event loop has so many, or what takes a slice of its time. */
const rowsAtOnce = 64;

async function giveRows(
  writing: ReturnType<SeriesText["write"]>,
  subjects: readonly Subject[],
  labels: (subject: Subject) => string,
): Promise<void> {
  let begun = performance.now();
  for (const [table, kind] of kinds.entries()) {
    const columns = columnsOf.get(kind) ?? [];
    const values = new Float64Array(rowsAtOnce * columns.length);
    let rows: string[] = [];
    const give = () => {
      writing.add(table, rows, values.subarray(0, rows.length * columns.length));
      rows = [];
    };
    for (const subject of subjects) {
      for (const row of kind.rows(subject)) {
        let at = rows.push(rowLabels(kind, labels(subject), row)) * columns.length - columns.length;
        for (const column of columns) values[at++] = column.value(row) ?? Number.NaN;
        if (rows.length < rowsAtOnce) continue;
        give();
        if (performance.now() - begun < sliceMs) continue;
        await setImmediate();
        begun = performance.now();
      }
    }
    give();
  }
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
    kinds.map((kind) => columnsOf.get(kind)?.length ?? 0),
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
