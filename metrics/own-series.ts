/**
 * The series of Berth's own instruments: what has been counted since the agent's start, and what is set for each answer.
 * prom-client keeps them. The lines are written here, because its registry takes "_total" away from counters for good once
 * somebody has asked for OpenMetrics.
 */
import { Gauge, Histogram } from "prom-client";
import type { Instrument } from "./instruments.js";
import { heading, labelText } from "./text.js";

export type Labels<I extends Instrument> = Readonly<Record<I["labels"][number], string>>;

/** An instrument has no more series than this: what comes beyond, whatever it is, is counted in one that says "other". */
const mostSeries = 300;

/** A counter or a gauge; a counter of the kernel's or of Node's is set, too. */
export class Values<I extends Instrument> {
  readonly #gauge: Gauge;
  readonly #bounded: BoundedLabels<I>;

  constructor(private readonly instrument: I) {
    const { name, help, labels: labelNames } = instrument;
    this.#gauge = new Gauge({ name, help, labelNames, registers: [] });
    this.#bounded = new BoundedLabels(instrument);
  }

  add(labels: Labels<I>, amount = 1): void {
    this.#gauge.inc(this.#bounded.of(labels), amount);
  }

  set(labels: Labels<I>, value: number): void {
    this.#gauge.set(this.#bounded.of(labels), value);
  }

  async write(openMetrics: boolean): Promise<string> {
    const { values } = await this.#gauge.get();
    // without labels prom-client has a 0 from the beginning
    if (values.length === 0 || this.#bounded.size === 0) return "";
    const { name } = this.instrument;
    const lines = values.map(({ labels, value }) => line(name, textOf(this.instrument, labels), value));
    return heading(this.instrument, openMetrics) + lines.join("");
  }
}

/** The last observation with a trace, of a bucket. */
interface Exemplar {
  labelSet: { trace_id?: string };
  value: number;
  /** seconds since 1970 */
  timestamp?: number;
}

export class Distributions<I extends Instrument> {
  readonly #histogram: Histogram;
  readonly #bounded: BoundedLabels<I>;

  constructor(private readonly instrument: I) {
    const { name, help, labels: labelNames, buckets = [] } = instrument;
    this.#histogram = new Histogram({
      ...{ name, help, labelNames, registers: [] },
      buckets: [...buckets],
      enableExemplars: true,
    });
    this.#bounded = new BoundedLabels(instrument);
  }

  /** `traceId`: 32 hexadecimal digits of the trace that the observation is part of */
  observe(labels: Labels<I>, value: number, traceId?: string): void {
    const exemplar = traceId === undefined ? {} : { exemplarLabels: { trace_id: traceId } };
    this.#histogram.observe({ labels: this.#bounded.of(labels), value, ...exemplar });
  }

  async write(openMetrics: boolean): Promise<string> {
    if (this.#bounded.size === 0) return "";
    const { values } = await this.#histogram.get();
    let text = heading(this.instrument, openMetrics);
    for (const series of values) {
      const { metricName = this.instrument.name, value } = series;
      const { le, ...labels } = series.labels;
      const { exemplar } = series as { exemplar?: Exemplar | null };
      const own = textOf(this.instrument, labels);
      const bound = le === undefined ? "" : `le="${le}"`;
      text += line(metricName, [own, bound].filter(Boolean).join(","), value, openMetrics ? exemplar : undefined);
    }
    return text;
  }
}

export type MakeValues = <I extends Instrument>(instrument: I) => Values<I>;
export type MakeDistributions = <I extends Instrument>(instrument: I) => Distributions<I>;

/** Labels of the series that an instrument has, or may have. */
class BoundedLabels<I extends Instrument> {
  readonly #known = new Set<string>();

  constructor(private readonly instrument: I) {}

  get size(): number {
    return this.#known.size;
  }

  of(labels: Labels<I>): Record<string, string> {
    const key = textOf(this.instrument, labels);
    if (this.#known.has(key)) return labels;
    if (this.#known.size < mostSeries) {
      this.#known.add(key);
      return labels;
    }
    return Object.fromEntries(this.instrument.labels.map((name) => [name, "other"]));
  }
}

function textOf(instrument: Instrument, labels: Readonly<Record<string, string | number | undefined>>): string {
  const values = instrument.labels.map((name) => String(labels[name] ?? ""));
  return labelText(instrument.labels, values);
}

function line(name: string, labels: string, value: number, exemplar?: Exemplar | null): string {
  const series = labels === "" ? name : `${name}{${labels}}`;
  if (exemplar?.labelSet.trace_id === undefined) return `${series} ${value}\n`;
  const { labelSet, value: observed, timestamp = 0 } = exemplar;
  return `${series} ${value} # {trace_id="${labelSet.trace_id}"} ${observed} ${timestamp}\n`;
}
