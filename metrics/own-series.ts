/** The series of Berth's own instruments: what has been counted since the agent's start, and what is set for each answer. */
import type { Instrument } from "./instruments.js";
import { heading, labelText } from "./text.js";

export type Labels<I extends Instrument> = Readonly<Record<I["labels"][number], string>>;

interface Series {
  write(openMetrics: boolean): string;
}

/** An instrument has no more series than this: what comes beyond, whatever it is, is counted in one that says "other". */
const mostSeries = 300;

/** A counter or a gauge. */
export class Values<I extends Instrument> implements Series {
  readonly #values = new Map<string, number>();

  constructor(private readonly instrument: I) {}

  add(labels: Labels<I>, amount = 1): void {
    const key = keyIn(this.#values, this.instrument, labels);
    this.#values.set(key, (this.#values.get(key) ?? 0) + amount);
  }

  set(labels: Labels<I>, value: number): void {
    this.#values.set(keyIn(this.#values, this.instrument, labels), value);
  }

  write(openMetrics: boolean): string {
    if (this.#values.size === 0) return "";
    let text = heading(this.instrument, openMetrics);
    for (const [labels, value] of this.#values) text += line(this.instrument.name, labels, value);
    return text;
  }
}

/** The last observation with a trace, of a bucket. */
interface Exemplar {
  traceId: string;
  value: number;
  timestampMs: number;
}

interface Distribution {
  /** of each bucket alone, the last one without a bound */
  counts: number[];
  exemplars: (Exemplar | undefined)[];
  sum: number;
}

export class Distributions<I extends Instrument> implements Series {
  readonly #distributions = new Map<string, Distribution>();
  readonly #bounds: readonly number[];

  constructor(private readonly instrument: I) {
    this.#bounds = instrument.buckets ?? [];
  }

  /** `traceId`: 32 hexadecimal digits of the trace that the observation is part of */
  observe(labels: Labels<I>, value: number, traceId?: string): void {
    const key = keyIn(this.#distributions, this.instrument, labels);
    let distribution = this.#distributions.get(key);
    if (distribution === undefined) {
      distribution = { counts: Array(this.#bounds.length + 1).fill(0), exemplars: [], sum: 0 };
      this.#distributions.set(key, distribution);
    }
    let bucket = this.#bounds.findIndex((bound) => value <= bound);
    if (bucket < 0) bucket = this.#bounds.length;
    distribution.counts[bucket] = (distribution.counts[bucket] ?? 0) + 1;
    distribution.sum += value;
    if (traceId !== undefined) distribution.exemplars[bucket] = { traceId, value, timestampMs: Date.now() };
  }

  write(openMetrics: boolean): string {
    if (this.#distributions.size === 0) return "";
    const { name } = this.instrument;
    let text = heading(this.instrument, openMetrics);
    for (const [labels, { counts, exemplars, sum }] of this.#distributions) {
      let count = 0;
      for (const [bucket, more] of counts.entries()) {
        count += more;
        const bound = `le="${this.#bounds[bucket] ?? "+Inf"}"`;
        const exemplar = openMetrics ? exemplars[bucket] : undefined;
        const limits = labels === "" ? bound : `${labels},${bound}`;
        text += line(`${name}_bucket`, limits, count, exemplar);
      }
      text += line(`${name}_sum`, labels, sum) + line(`${name}_count`, labels, count);
    }
    return text;
  }
}

function keyIn<I extends Instrument>(known: ReadonlyMap<string, unknown>, instrument: I, labels: Labels<I>): string {
  const names: readonly I["labels"][number][] = instrument.labels;
  const values = names.map((name) => labels[name]);
  const key = labelText(names, values);
  if (known.size < mostSeries || known.has(key)) return key;
  return labelText(
    names,
    names.map(() => "other"),
  );
}

function line(name: string, labels: string, value: number, exemplar?: Exemplar): string {
  const series = labels === "" ? name : `${name}{${labels}}`;
  if (exemplar === undefined) return `${series} ${value}\n`;
  const { traceId, value: observed, timestampMs } = exemplar;
  return `${series} ${value} # {trace_id="${traceId}"} ${observed} ${timestampMs / 1000}\n`;
}
