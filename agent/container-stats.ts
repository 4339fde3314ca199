/** Statistics of containers, as the CRI's ContainerStats has them. */
import Long from "long";
import type { runtime as proto } from "../cri-proto/generated/runtime.js";
import { type ContainerReadings, containerUsages } from "../metrics/collect.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { Container } from "../sandbox/container.js";
import type { DiskUsage } from "../sandbox/rootfs/snapshots.js";
import { cpuUsage, ioUsage, memoryUsage, swapUsage } from "./cgroup-stats.js";
import type { Runtime } from "./runtime.js";
import { toUint64 } from "./states.js";

/** One pass over all of them. One that ends meanwhile has neither cpu nor memory. */
export async function containerStats(
  runtime: Runtime,
  containers: readonly Container[],
  readings: ContainerReadings = containerUsages,
): Promise<proto.v1.IContainerStats[]> {
  const [samples, usages] = await Promise.all([
    readings.of(runtime.node, containers),
    Promise.all(containers.map((container) => writtenBy(runtime, container))),
  ]);
  return containers.map((container, index) => statsOf(runtime, container, samples.get(container), usages[index]));
}

function writtenBy({ node }: Runtime, container: Container): Promise<DiskUsage | undefined> {
  return node.snapshots.writableLayerUsage(container.record.id).catch(() => undefined);
}

function statsOf(
  { node, cpuRates }: Runtime,
  container: Container,
  sample: CgroupSample | undefined,
  usage: DiskUsage | undefined,
): proto.v1.IContainerStats {
  const stats: proto.v1.IContainerStats = { attributes: attributes(container) };
  if (sample !== undefined) {
    stats.cpu = cpuUsage(sample, cpuRates.take(container, sample));
    stats.memory = memoryUsage(sample);
    stats.swap = swapUsage(sample);
    const io = ioUsage(sample);
    if (io !== undefined) stats.io = io;
  }
  if (usage !== undefined) stats.writable_layer = writableLayer(node.snapshots.directory, usage);
  return stats;
}

function attributes({ record, config }: Container): proto.v1.IContainerAttributes {
  return {
    id: record.id,
    metadata: config.metadata ?? null,
    labels: config.labels ?? {},
    annotations: config.annotations ?? {},
  };
}

function writableLayer(mountpoint: string, usage: DiskUsage): proto.v1.IFilesystemUsage {
  return {
    timestamp: Long.fromNumber(Number(usage.timestamp)),
    fs_id: { mountpoint },
    used_bytes: toUint64(usage.bytes),
    inodes_used: toUint64(usage.inodes),
  };
}
