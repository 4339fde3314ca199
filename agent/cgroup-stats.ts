/** A cgroup's sample in the CRI's messages. What the kernel did not tell is left out: zero would be a claim. */
import Long from "long";
import type { runtime as proto } from "../cri-proto/generated/runtime.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import { toUint64 } from "./states.js";

interface CpuReading {
  timestamp: number;
  usageNs: number;
  /** nanoseconds of CPU in a second, over the time before this reading; undefined for the first one */
  nanoCores: number | undefined;
}

/** Two readings nearer than this give no rate that means anything; the last rate stands. */
const shortestIntervalNs = 100_000_000;

/** Turns the CPU counters into rates: each from the reading before of the same container or pod. */
export class CpuRates {
  readonly #last = new WeakMap<object, CpuReading>();

  take(subject: object, { timestamp, cpuUsageNs: usageNs }: CgroupSample): number | undefined {
    if (usageNs === undefined) return undefined;
    const last = this.#last.get(subject);
    const passed = timestamp - (last?.timestamp ?? 0);
    if (last !== undefined && Math.abs(passed) < shortestIntervalNs) return last.nanoCores;
    let nanoCores: number | undefined;
    // a clock that was set back tells no interval; the next reading has one again
    if (last !== undefined && passed > 0 && usageNs >= last.usageNs) {
      nanoCores = Math.round(((usageNs - last.usageNs) * 1e9) / passed);
    }
    this.#last.set(subject, { timestamp, usageNs, nanoCores });
    return nanoCores;
  }
}

export function cpuUsage(sample: CgroupSample, nanoCores: number | undefined): proto.v1.ICpuUsage {
  const usage: proto.v1.ICpuUsage = { timestamp: time(sample) };
  if (sample.cpuUsageNs !== undefined) usage.usage_core_nano_seconds = toUint64(sample.cpuUsageNs);
  if (nanoCores !== undefined) usage.usage_nano_cores = toUint64(nanoCores);
  const psi = pressure(sample, "cpu");
  if (psi !== undefined) usage.psi = psi;
  return usage;
}

export function memoryUsage(sample: CgroupSample): proto.v1.IMemoryUsage {
  const { memoryLimitBytes: limit, memoryWorkingSetBytes: workingSet } = sample;
  const usage: proto.v1.IMemoryUsage = { timestamp: time(sample) };
  if (workingSet !== undefined) usage.working_set_bytes = toUint64(workingSet);
  if (limit !== undefined && workingSet !== undefined) usage.available_bytes = left(limit, workingSet);
  if (sample.memoryUsageBytes !== undefined) usage.usage_bytes = toUint64(sample.memoryUsageBytes);
  if (sample.memoryRssBytes !== undefined) usage.rss_bytes = toUint64(sample.memoryRssBytes);
  if (sample.pageFaults !== undefined) usage.page_faults = toUint64(sample.pageFaults);
  if (sample.majorPageFaults !== undefined) usage.major_page_faults = toUint64(sample.majorPageFaults);
  const psi = pressure(sample, "memory");
  if (psi !== undefined) usage.psi = psi;
  return usage;
}

export function swapUsage(sample: CgroupSample): proto.v1.ISwapUsage {
  const { swapLimitBytes: limit, swapUsageBytes: used } = sample;
  const usage: proto.v1.ISwapUsage = { timestamp: time(sample) };
  if (limit !== undefined && used !== undefined) usage.swap_available_bytes = left(limit, used);
  if (used !== undefined) usage.swap_usage_bytes = toUint64(used);
  return usage;
}

/** The CRI has no more of it than the pressure; undefined: there is none to tell. */
export function ioUsage(sample: CgroupSample): proto.v1.IIoUsage | undefined {
  const psi = pressure(sample, "io");
  return psi === undefined ? undefined : { timestamp: time(sample), psi };
}

function pressure(sample: CgroupSample, resource: "cpu" | "memory" | "io"): proto.v1.IPsiStats | undefined {
  const some = stalled(sample, `${resource}Some`);
  const full = stalled(sample, `${resource}Full`);
  if (some === undefined && full === undefined) return undefined;
  return { Some: some ?? null, Full: full ?? null };
}

type Stalled = `${"cpu" | "memory" | "io"}${"Some" | "Full"}`;

function stalled(sample: CgroupSample, which: Stalled): proto.v1.IPsiData | undefined {
  const total = sample[`${which}Ns`];
  if (total === undefined) return undefined;
  return {
    Total: Long.fromNumber(total, true),
    Avg10: sample[`${which}Avg10`] ?? 0,
    Avg60: sample[`${which}Avg60`] ?? 0,
    Avg300: sample[`${which}Avg300`] ?? 0,
  };
}

function left(limit: number, used: number): proto.v1.IUInt64Value {
  return toUint64(Math.max(0, limit - used));
}

function time(sample: CgroupSample): Long {
  return Long.fromNumber(sample.timestamp);
}
