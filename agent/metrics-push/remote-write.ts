/** Prometheus' remote-write protocol, version 1.0 ("Prometheus Remote-Write 1.0 specification"). */
import Long from "long";
import { Writer } from "protobufjs/minimal.js";
import { compress } from "snappyjs";
import type { Family, Labels } from "./families.js";
import type { Encode } from "./pusher.js";

export const remoteWriteHeaders = {
  "content-type": "application/x-protobuf",
  "content-encoding": "snappy",
  "x-prometheus-remote-write-version": "0.1.0",
};

/** The bits of the NaN that says that a series has ended (section "Stale Markers"). */
const staleMarker = Long.fromBits(0x00000002, 0x7ff00000, true);
/** Of MetricMetadata.MetricType. */
const types: Readonly<Record<string, number>> = { counter: 1, gauge: 2, histogram: 3, summary: 5 };

/** Field numbers: prometheus/prompb, remote.proto and types.proto. Each series' labels are in their names' order, as is wanted. */
export function encodeRemoteWrite(): Encode {
  /** of the scrape before: those that are not there any more end */
  let before = new Map<string, Labels>();
  return (families, atMs, further) => {
    const writer = Writer.create();
    const now = new Map<string, Labels>();
    for (const { samples } of families) {
      for (const { name, labels, value } of samples) {
        const all = sorted(name, labels, further);
        now.set(all.flat().join("\0"), all);
        writeSeries(writer, all, atMs, (sample) => sample.uint32(9).double(value));
      }
    }
    for (const [key, labels] of before) {
      if (!now.has(key)) {
        writeSeries(writer, labels, atMs, (sample) => sample.uint32(9).fixed64(staleMarker));
      }
    }
    before = now;
    for (const family of families) writeMetadata(writer, family);
    return { body: compress(Buffer.from(writer.finish())), headers: remoteWriteHeaders };
  };
}

/** What the series itself says counts more than what is added. */
function sorted(name: string, labels: Labels, further: Labels): Labels {
  const own = new Set(labels.map(([key]) => key));
  const all: Labels = [["__name__", name], ...labels, ...further.filter(([key]) => !own.has(key))];
  return all.filter(([, value]) => value !== "").sort(([a], [b]) => (a < b ? -1 : 1));
}

function writeSeries(writer: Writer, labels: Labels, atMs: number, value: (sample: Writer) => void): void {
  writer.uint32(10).fork();
  for (const [key, text] of labels) writer.uint32(10).fork().uint32(10).string(key).uint32(18).string(text).ldelim();
  writer.uint32(18).fork();
  value(writer);
  writer.uint32(16).int64(atMs).ldelim().ldelim();
}

function writeMetadata(writer: Writer, { name, help, type }: Family): void {
  writer.uint32(26).fork();
  writer.uint32(8).int32(types[type] ?? 0);
  writer.uint32(18).string(name).uint32(34).string(help).ldelim();
}
