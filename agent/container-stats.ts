/** Statistics of containers, as the CRI's ContainerStats has them. */
import type { runtime as proto } from "../cri-proto/generated/runtime.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { Container } from "../sandbox/container.js";
import type { DiskUsage } from "../sandbox/rootfs/snapshots.js";
import type { Runtime } from "./runtime.js";
import { toInt64, toUint64 } from "./states.js";

interface CpuReading {
  timestamp: bigint;
  usageNs: bigint;
  /** nanoseconds of CPU in a second, over the time before this reading; undefined for the first one */
  nanoCores: bigint | undefined;
}

/** Two readings nearer than this give no rate that means anything; the last rate stands. */
const shortestIntervalNs = 100_000_000n;

/** Turns the CPU counters into rates: each from the reading before. */
export class CpuRates {
  readonly #last = new WeakMap<Container, CpuReading>();

  take(container: Container, timestamp: bigint, usageNs: bigint): bigint | undefined {
    const last = this.#last.get(container);
    if (last !== undefined && timestamp - last.timestamp < shortestIntervalNs) return last.nanoCores;
    let nanoCores: bigint | undefined;
    if (last !== undefined && usageNs >= last.usageNs) {
      nanoCores = ((usageNs - last.usageNs) * 1_000_000_000n) / (timestamp - last.timestamp);
    }
    this.#last.set(container, { timestamp, usageNs, nanoCores });
    return nanoCores;
  }
}

/** One pass over all of them. One that ends meanwhile has neither cpu nor memory. */
export async function containerStats(
  { node, cpuRates }: Runtime,
  containers: readonly Container[],
): Promise<proto.v1.IContainerStats[]> {
  const samples = await node.cgroups.sample(containers.map((container) => container.record.cgroupPath));
  const usages = await Promise.all(
    containers.map((container) => node.snapshots.writableLayerUsage(container.record.id).catch(() => undefined)),
  );
  return containers.map((container, index) => {
    const sample = samples.get(container.record.cgroupPath);
    const usage = usages[index];
    return {
      attributes: attributes(container),
      ...(sample && { cpu: cpuUsage(container, sample, cpuRates) }),
      ...(sample && { memory: memoryUsage(sample) }),
      ...(sample && { swap: swapUsage(sample) }),
      ...(usage && { writable_layer: writableLayer(node.snapshots.directory, usage) }),
    };
  });
}

function attributes({ record, config }: Container): proto.v1.IContainerAttributes {
  return {
    id: record.id,
    metadata: config.metadata ?? null,
    labels: config.labels ?? {},
    annotations: config.annotations ?? {},
  };
}

function cpuUsage(container: Container, sample: CgroupSample, rates: CpuRates): proto.v1.ICpuUsage {
  const usage: proto.v1.ICpuUsage = { timestamp: toInt64(sample.timestamp) };
  if (sample.cpuUsageNs === undefined) return usage;
  usage.usage_core_nano_seconds = toUint64(sample.cpuUsageNs);
  const nanoCores = rates.take(container, sample.timestamp, sample.cpuUsageNs);
  if (nanoCores !== undefined) usage.usage_nano_cores = toUint64(nanoCores);
  return usage;
}

function memoryUsage(sample: CgroupSample): proto.v1.IMemoryUsage {
  const { memoryLimitBytes: limit, memoryWorkingSetBytes: workingSet } = sample;
  const available = limit !== undefined && workingSet !== undefined ? Math.max(0, limit - workingSet) : undefined;
  return {
    timestamp: toInt64(sample.timestamp),
    ...known("working_set_bytes", workingSet),
    ...known("available_bytes", available),
    ...known("usage_bytes", sample.memoryUsageBytes),
    ...known("rss_bytes", sample.memoryRssBytes),
    ...known("page_faults", sample.pageFaults),
    ...known("major_page_faults", sample.majorPageFaults),
  };
}

function swapUsage(sample: CgroupSample): proto.v1.ISwapUsage {
  const { swapLimitBytes: limit, swapUsageBytes: used } = sample;
  const available = limit !== undefined && used !== undefined ? Math.max(0, limit - used) : undefined;
  return {
    timestamp: toInt64(sample.timestamp),
    ...known("swap_available_bytes", available),
    ...known("swap_usage_bytes", used),
  };
}

function writableLayer(mountpoint: string, usage: DiskUsage): proto.v1.IFilesystemUsage {
  return {
    timestamp: toInt64(usage.timestamp),
    fs_id: { mountpoint },
    used_bytes: toUint64(usage.bytes),
    inodes_used: toUint64(usage.inodes),
  };
}

/** A value that the kernel did not tell is left out: zero would be a claim. */
function known<K extends string>(name: K, value: number | undefined): { [P in K]?: proto.v1.IUInt64Value } {
  return (value === undefined ? {} : { [name]: toUint64(value) }) as { [P in K]?: proto.v1.IUInt64Value };
}
