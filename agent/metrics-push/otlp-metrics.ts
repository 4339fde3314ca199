/** Metrics as OpenTelemetry has them: OTLP/HTTP in JSON (opentelemetry-proto, collector/metrics/v1), compressed. */
import { gzipSync } from "node:zlib";
import { attribute } from "../otlp-http.js";
import type { Family, Labels, Sample } from "./families.js";
import type { Encode } from "./pusher.js";

/** AGGREGATION_TEMPORALITY_CUMULATIVE */
const cumulative = 2;

export function encodeOtlp(): Encode {
  return (families, atMs, further) => ({
    body: gzipSync(JSON.stringify(toRequest(families, atMs, further)), { level: 1 }),
    headers: { "content-type": "application/json", "content-encoding": "gzip" },
  });
}

/** ExportMetricsServiceRequest. What is added to all series are attributes of the resource. */
export function toRequest(families: readonly Family[], atMs: number, further: Labels) {
  const resource = [attribute("service.name", "berth"), ...further.map(([key, value]) => attribute(key, value))];
  const metrics = families
    .filter(({ samples }) => samples.length > 0)
    .map((family) => toMetric(family, `${atMs}000000`));
  return {
    resourceMetrics: [{ resource: { attributes: resource }, scopeMetrics: [{ scope: { name: "berth" }, metrics }] }],
  };
}

function toMetric({ name, help, type, samples }: Family, timeUnixNano: string) {
  const about = { name, description: help };
  if (type === "histogram") {
    const dataPoints = histograms(name, samples).map((point) => ({ ...point, timeUnixNano }));
    return { ...about, histogram: { aggregationTemporality: cumulative, dataPoints } };
  }
  const dataPoints = samples.map(({ labels, value }) => ({
    attributes: attributes(labels),
    timeUnixNano,
    asDouble: json(value),
  }));
  if (type !== "counter") return { ...about, gauge: { dataPoints } };
  return { ...about, sum: { aggregationTemporality: cumulative, isMonotonic: true, dataPoints } };
}

interface HistogramPoint {
  attributes: ReturnType<typeof attributes>;
  explicitBounds: number[];
  /** uint64 are strings in protobuf's JSON */
  bucketCounts: string[];
  count: string;
  sum: number | string;
}

/** Prometheus' buckets hold what is in the smaller ones, too; OTLP's do not. */
function histograms(name: string, samples: readonly Sample[]): HistogramPoint[] {
  const points = new Map<string, HistogramPoint & { before: number }>();
  for (const sample of samples) {
    const labels = sample.labels.filter(([key]) => key !== "le");
    const key = labels.flat().join("\0");
    const empty = {
      attributes: attributes(labels),
      explicitBounds: [],
      bucketCounts: [],
      count: "0",
      sum: 0,
      before: 0,
    };
    const point = points.get(key) ?? empty;
    points.set(key, point);
    if (sample.name === `${name}_sum`) point.sum = json(sample.value);
    else if (sample.name === `${name}_count`) point.count = String(sample.value);
    else {
      const bound = sample.labels.find(([label]) => label === "le")?.[1] ?? "";
      if (bound !== "+Inf") point.explicitBounds.push(Number(bound));
      point.bucketCounts.push(String(sample.value - point.before));
      point.before = sample.value;
    }
  }
  return [...points.values()].map(({ before: _, ...point }) => point);
}

const attributes = (labels: Labels) =>
  labels.filter(([, value]) => value !== "").map(([key, value]) => attribute(key, value));

/** protobuf's JSON has these three in words */
function json(value: number): number | string {
  if (Number.isNaN(value)) return "NaN";
  if (Number.isFinite(value)) return value;
  return value > 0 ? "Infinity" : "-Infinity";
}
