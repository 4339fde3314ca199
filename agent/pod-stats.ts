/** Statistics of pods, as the CRI's PodSandboxStats has them. */
import Long from "long";
import type { runtime as proto } from "../cri-proto/generated/runtime.js";
import {
  containerCgroups,
  type PodCgroupSample,
  type PodNetworkSample,
  podCgroups,
  podNetworks,
} from "../metrics/collect.js";
import type { LinkStatistics } from "../native/binding.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { Container } from "../sandbox/container.js";
import type { Pod } from "../sandbox/pod.js";
import { cpuUsage, ioUsage, memoryUsage } from "./cgroup-stats.js";
import { containerStats } from "./container-stats.js";
import type { Runtime } from "./runtime.js";
import { toUint64 } from "./states.js";

/** One pass over all of them. A pod that is not ready has attributes, and nothing else. */
export async function podStats(runtime: Runtime, pods: readonly Pod[]): Promise<proto.v1.IPodSandboxStats[]> {
  const { node } = runtime;
  const containers = runningContainers(runtime, pods);
  const all = [...containers.values()].flat();
  const [stats, containerSamples, cgroups, networks] = await Promise.all([
    // the same pass
    containerStats(runtime, all, containerCgroups),
    containerCgroups.of(node, all),
    podCgroups.of(node, pods),
    podNetworks.of(node, pods),
  ]);
  const statsOf = new Map(all.map((container, index) => [container, stats[index] ?? {}]));
  return pods.map((pod) => {
    const own = containers.get(pod) ?? [];
    const samples = own.flatMap((container) => containerSamples.get(container) ?? []);
    const cgroup = cgroups.get(pod);
    const linux: proto.v1.ILinuxPodSandboxStats = { containers: own.map((container) => statsOf.get(container) ?? {}) };
    if (cgroup !== undefined) addUsage(linux, runtime, pod, cgroup, samples);
    const network = networks.get(pod);
    if (network !== undefined) linux.network = networkUsage(network);
    return { attributes: attributes(pod), linux };
  });
}

function runningContainers({ node }: Runtime, pods: readonly Pod[]): Map<Pod, Container[]> {
  const byId = new Map(pods.map((pod) => [pod.record.id, pod]));
  const result = new Map<Pod, Container[]>();
  for (const container of node.containers.list()) {
    const pod = byId.get(container.record.podId);
    if (pod === undefined || container.record.phase === "exited") continue;
    const known = result.get(pod);
    if (known === undefined) result.set(pod, [container]);
    else known.push(container);
  }
  return result;
}

function addUsage(
  linux: proto.v1.ILinuxPodSandboxStats,
  { cpuRates }: Runtime,
  pod: Pod,
  { whole, cgroup }: PodCgroupSample,
  containers: readonly CgroupSample[],
): void {
  const sample = whole ? cgroup : sum([cgroup, ...containers]);
  linux.cpu = cpuUsage(sample, cpuRates.take(pod, sample));
  linux.memory = memoryUsage(sample);
  const io = ioUsage(sample);
  if (io !== undefined) linux.io = io;
  if (sample.processes !== undefined) {
    const timestamp = Long.fromNumber(sample.timestamp);
    linux.process = { timestamp, process_count: toUint64(sample.processes) };
  }
}

const addable = [
  "cpuUsageNs",
  "memoryUsageBytes",
  "memoryWorkingSetBytes",
  "memoryRssBytes",
  "pageFaults",
  "majorPageFaults",
  "processes",
] as const;

/** Of a pod whose cgroup's parent others use, too: limits and pressure are nobody's there. */
function sum(samples: readonly [CgroupSample, ...CgroupSample[]]): CgroupSample {
  const total: CgroupSample = { timestamp: samples[0].timestamp };
  for (const field of addable) {
    for (const sample of samples) {
      const value = sample[field];
      if (value !== undefined) total[field] = (total[field] ?? 0) + value;
    }
  }
  return total;
}

/** The interface that the CRI calls the default one has the name that it has everywhere, else it is the first. */
function networkUsage({ timestamp, links }: PodNetworkSample): proto.v1.INetworkUsage {
  const interfaces = links.map(interfaceUsage);
  const first = interfaces.find(({ name }) => name === "eth0") ?? interfaces[0];
  return { timestamp: Long.fromNumber(timestamp), default_interface: first ?? null, interfaces };
}

function interfaceUsage({
  name,
  rxBytes,
  rxErrors,
  txBytes,
  txErrors,
}: LinkStatistics): proto.v1.INetworkInterfaceUsage {
  return {
    name,
    rx_bytes: toUint64(rxBytes),
    rx_errors: toUint64(rxErrors),
    tx_bytes: toUint64(txBytes),
    tx_errors: toUint64(txErrors),
  };
}

function attributes({ record, config }: Pod): proto.v1.IPodSandboxAttributes {
  return {
    id: record.id,
    metadata: config.metadata ?? null,
    labels: config.labels ?? {},
    annotations: config.annotations ?? {},
  };
}
