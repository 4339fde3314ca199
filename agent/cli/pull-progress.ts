/** How far a pull is, for people: a bar for each layer on a terminal, a line for each step of a layer elsewhere. */
import { berth } from "../../cri-proto/generated/admin.js";
import { shortId } from "./output.js";

const { LayerState } = berth.v1;

/** One layer, and how fast it has been coming lately. */
export interface ShownLayer {
  name: string;
  state: berth.v1.LayerState;
  bytes: number;
  totalBytes: number;
  /** 0: it stands still */
  bytesPerSecond: number;
}

export interface PullView {
  show(layers: readonly berth.v1.ILayerProgress[]): void;
  /** Takes away what was only meant to be seen meanwhile. */
  end(): void;
}

interface Terminal {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
  rows?: number;
}

const barWidth = { least: 10, most: 40 };

export function openPullView(output: Terminal): PullView {
  const meters = new Map<number, Meter>();
  const measure = (layers: readonly berth.v1.ILayerProgress[]): ShownLayer[] =>
    layers.map((layer, index) => {
      const meter = meters.get(index) ?? new Meter();
      meters.set(index, meter);
      const bytes = Number(layer.bytes ?? 0);
      return {
        name: shortId(layer.digest ?? ""),
        state: layer.state ?? LayerState.LAYER_WAITING,
        bytes,
        totalBytes: Number(layer.total_bytes ?? 0),
        bytesPerSecond: meter.rate(bytes, performance.now()),
      };
    });
  return output.isTTY ? barsOn(output, measure) : linesOn(output, measure);
}

type Measure = (layers: readonly berth.v1.ILayerProgress[]) => ShownLayer[];

function barsOn(output: Terminal, measure: Measure): PullView {
  let shownLines = 0;
  // up to the first line of what was shown, and everything from there away
  const erase = (): string => (shownLines === 0 ? "" : `\x1b[${shownLines}A\x1b[J`);
  return {
    show(layers) {
      const lines = barLines(measure(layers), output.columns ?? 80, output.rows ?? 24);
      output.write(erase() + lines.map((line) => `${line}\n`).join(""));
      shownLines = lines.length;
    },
    end() {
      output.write(erase());
      shownLines = 0;
    },
  };
}

function linesOn(output: Terminal, measure: Measure): PullView {
  const told: berth.v1.LayerState[] = [];
  return {
    show(layers) {
      for (const [index, layer] of measure(layers).entries()) {
        if (told[index] === layer.state || layer.state === LayerState.LAYER_WAITING) continue;
        told[index] = layer.state;
        output.write(`${layer.name}: ${sentence(layer)}\n`);
      }
    },
    end: () => undefined,
  };
}

/** What a terminal shows: layers that are under way, as many as there is room for, and all of them in one line. */
export function barLines(layers: readonly ShownLayer[], columns: number, rows: number): string[] {
  const room = Math.max(1, rows - 2);
  const shown = layers.length <= room ? layers : layers.filter(isUnderWay).slice(0, room);
  // one column stays free: a full line would break on some terminals
  return [...shown.map((layer) => barLine(layer, columns - 1)), totalLine(layers).slice(0, columns - 1)];
}

function isUnderWay({ state }: ShownLayer): boolean {
  return state === LayerState.LAYER_DOWNLOADING || state === LayerState.LAYER_UNPACKING;
}

function isDone({ state }: ShownLayer): boolean {
  return state === LayerState.LAYER_EXISTS || state === LayerState.LAYER_COMPLETE;
}

function barLine(layer: ShownLayer, width: number): string {
  const text = sentence(layer);
  const wide = Math.min(barWidth.most, width - layer.name.length - text.length - 6);
  if (wide < barWidth.least) return `${layer.name}  ${text}`.slice(0, width);
  const part = isDone(layer) ? 1 : layer.totalBytes === 0 ? 0 : Math.min(1, layer.bytes / layer.totalBytes);
  const full = Math.floor(part * wide);
  return `${layer.name}  [${"#".repeat(full)}${"-".repeat(wide - full)}]  ${text}`;
}

function sentence({ state, bytes, totalBytes, bytesPerSecond }: ShownLayer): string {
  switch (state) {
    case LayerState.LAYER_WAITING:
      return "waits";
    case LayerState.LAYER_EXISTS:
      return "is here already";
    case LayerState.LAYER_DOWNLOADING: {
      const of = totalBytes > 0 ? ` of ${mega(totalBytes)}` : "";
      return `${mega(bytes)}${of} MB${bytesPerSecond > 0 ? `, ${mega(bytesPerSecond)} MB/s` : ""}`;
    }
    case LayerState.LAYER_UNPACKING:
      return `${mega(bytes)} MB, unpacking`;
    case LayerState.LAYER_COMPLETE:
      return `${mega(bytes)} MB, complete`;
    default:
      return state satisfies never;
  }
}

function totalLine(layers: readonly ShownLayer[]): string {
  if (layers.length === 0) return "asking the registry";
  const coming = layers.filter(({ state }) => state !== LayerState.LAYER_EXISTS);
  const sum = (value: (layer: ShownLayer) => number): number => coming.reduce((all, layer) => all + value(layer), 0);
  const rate = sum(({ bytesPerSecond }) => bytesPerSecond);
  const bytes = `${mega(sum((layer) => layer.bytes))} of ${mega(sum((layer) => layer.totalBytes))} MB`;
  return `${layers.filter(isDone).length} of ${layers.length} layers, ${bytes}${rate > 0 ? `, ${mega(rate)} MB/s` : ""}`;
}

function mega(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

/** Bytes a second over about the last second. */
export class Meter {
  #samples: { bytes: number; atMs: number }[] = [];

  rate(bytes: number, atMs: number): number {
    this.#samples = [...this.#samples.filter((sample) => atMs - sample.atMs <= 1000), { bytes, atMs }];
    const first = this.#samples[0];
    if (first === undefined || first.atMs === atMs) return 0;
    return Math.max(0, ((bytes - first.bytes) * 1000) / (atMs - first.atMs));
  }
}
