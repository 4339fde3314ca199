/** What containers and pods use, made from two answers of the agent: the processor's rate lies between them. */
import { setTimeout as sleep } from "node:timers/promises";
import { InvalidArgumentError } from "commander";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import type { Client } from "./client.js";
import { IoCounters } from "./io-counters.js";
import { shortId } from "./output.js";

export interface Usage {
  id: string;
  /** "namespace/name" of the pod, and the container's name; empty: the pod as a whole */
  pod: string;
  container: string;
  /** cores; undefined: not known yet */
  cpu?: number;
  workingSetBytes?: number;
  /** undefined: none */
  memoryLimitBytes?: number;
  swapBytes?: number;
  writtenBytes?: number;
  processes?: number;
  /** read from and written to block devices, in a second */
  ioBytes?: number;
  /** percentages of the last ten seconds in which some task waited */
  pressure: { cpu?: number; memory?: number; io?: number };
}

export type SortKey = "cpu" | "memory" | "swap" | "written" | "io" | "pressure" | "name";
export const sortKeys: readonly SortKey[] = ["cpu", "memory", "swap", "written", "io", "pressure", "name"];

interface Reading {
  usage: Usage;
  timestamp: number;
  cpuNs: number;
  ioBytes?: number;
}

/** Of --interval, in seconds: what the agent reads anew, and what a timer can wait for. */
export function parseInterval(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 0.1 && seconds <= 3600)) throw new InvalidArgumentError("A number from 0.1 to 3600 is wanted.");
  return seconds;
}

/** One after another, the first after `intervalMs`; with the signal it rejects. */
export async function* usages(
  client: Client,
  intervalMs: number,
  pods: boolean,
  signal?: AbortSignal,
): AsyncGenerator<Usage[]> {
  const io = new IoCounters(client);
  let last = await read(client, io, pods);
  for (;;) {
    await sleep(intervalMs, undefined, signal && { signal });
    const next = await read(client, io, pods);
    yield [...next].map(([id, reading]) => withRate(reading, last.get(id)));
    last = next;
  }
}

export function sorted(usages: readonly Usage[], key: SortKey): Usage[] {
  const weight = (usage: Usage): number => {
    switch (key) {
      case "cpu":
        return usage.cpu ?? 0;
      case "memory":
        return usage.workingSetBytes ?? 0;
      case "swap":
        return usage.swapBytes ?? 0;
      case "written":
        return usage.writtenBytes ?? 0;
      case "io":
        return usage.ioBytes ?? 0;
      case "pressure":
        return Math.max(usage.pressure.cpu ?? 0, usage.pressure.memory ?? 0, usage.pressure.io ?? 0);
      case "name":
        return 0;
      default:
        return key satisfies never;
    }
  };
  const name = ({ pod, container, id }: Usage) => `${pod} ${container} ${id}`;
  return [...usages].sort((a, b) => weight(b) - weight(a) || name(a).localeCompare(name(b)));
}

export const usageHeader = [
  "POD",
  "CONTAINER",
  "ID",
  "CPU",
  "MEMORY",
  "LIMIT",
  "SWAP",
  "WRITTEN",
  "IO/S",
  "PROCS",
  "WAITED (CPU MEM IO)",
];

export function usageRow(usage: Usage): string[] {
  const { pressure } = usage;
  const waited = [pressure.cpu, pressure.memory, pressure.io].map((percent) => percent?.toFixed(1) ?? "-");
  return [
    usage.pod,
    usage.container,
    shortId(usage.id),
    usage.cpu === undefined ? "-" : usage.cpu.toFixed(3),
    size(usage.workingSetBytes),
    usage.memoryLimitBytes === undefined ? "none" : size(usage.memoryLimitBytes),
    size(usage.swapBytes),
    size(usage.writtenBytes),
    size(usage.ioBytes === undefined ? undefined : Math.round(usage.ioBytes)),
    usage.processes?.toString() ?? "-",
    waited.join(" "),
  ];
}

/** "12.3 MiB" */
export function size(bytes: number | undefined): string {
  if (bytes === undefined) return "-";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

async function read(client: Client, io: IoCounters, pods: boolean): Promise<Map<string, Reading>> {
  const { stats } = await client.call("ListPodSandboxStats", {});
  const counters = await io.read(
    stats.flatMap(({ linux }) => (linux?.containers ?? []).map(({ attributes }) => attributes?.id ?? "")),
  );
  const readings = new Map<string, Reading>();
  for (const { attributes, linux } of stats) {
    const pod = `${attributes?.metadata?.namespace ?? ""}/${attributes?.metadata?.name ?? ""}`;
    if (pods) {
      const usage = usageOf(attributes?.id ?? "", pod, "", linux);
      const processes = linux?.process?.process_count;
      if (processes) usage.usage.processes = Number(processes.value);
      for (const { attributes: of } of linux?.containers ?? []) {
        const bytes = counters.get(of?.id ?? "");
        if (bytes !== undefined) usage.ioBytes = (usage.ioBytes ?? 0) + bytes;
      }
      readings.set(usage.usage.id, usage);
      continue;
    }
    for (const container of linux?.containers ?? []) {
      const usage = usageOf(container.attributes?.id ?? "", pod, container.attributes?.metadata?.name ?? "", container);
      const bytes = counters.get(usage.usage.id);
      if (bytes !== undefined) usage.ioBytes = bytes;
      readings.set(usage.usage.id, usage);
    }
  }
  return readings;
}

type Stats = Pick<runtime.v1.IContainerStats, "cpu" | "memory" | "swap" | "io" | "writable_layer"> | null | undefined;

function usageOf(id: string, pod: string, container: string, stats: Stats): Reading {
  const { cpu, memory, swap, io, writable_layer: written } = stats ?? {};
  const usage: Usage = { id, pod, container, pressure: {} };
  const take = (value: runtime.v1.IUInt64Value | null | undefined, use: (value: number) => void) => {
    if (value) use(Number(value.value));
  };
  take(memory?.working_set_bytes, (bytes) => {
    usage.workingSetBytes = bytes;
    take(memory?.available_bytes, (available) => {
      usage.memoryLimitBytes = bytes + available;
    });
  });
  take(swap?.swap_usage_bytes, (bytes) => {
    usage.swapBytes = bytes;
  });
  take(written?.used_bytes, (bytes) => {
    usage.writtenBytes = bytes;
  });
  for (const [resource, psi] of [
    ["cpu", cpu?.psi],
    ["memory", memory?.psi],
    ["io", io?.psi],
  ] as const) {
    if (psi?.Some) usage.pressure[resource] = psi.Some.Avg10 ?? 0;
  }
  const counter = cpu?.usage_core_nano_seconds;
  return { usage, timestamp: Number(cpu?.timestamp ?? 0), cpuNs: counter ? Number(counter.value) : Number.NaN };
}

function withRate({ usage, timestamp, cpuNs, ioBytes }: Reading, before: Reading | undefined): Usage {
  const passed = timestamp - (before?.timestamp ?? timestamp);
  if (!(passed > 0)) return usage;
  const cpu = (cpuNs - (before?.cpuNs ?? Number.NaN)) / passed;
  const io = (((ioBytes ?? Number.NaN) - (before?.ioBytes ?? Number.NaN)) * 1e9) / passed;
  return { ...usage, ...(cpu >= 0 && { cpu }), ...(io >= 0 && { ioBytes: io }) };
}
