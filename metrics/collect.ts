/** One pass over the statistics of all pods and containers: each file is read once, however many ask at the time. */
import { type LinkStatistics, native } from "../native/binding.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { Container } from "../sandbox/container.js";
import type { SandboxNode } from "../sandbox/node.js";
import type { Pod } from "../sandbox/pod.js";
import { SharedReadings } from "./passes.js";

/** What metrics see of a node: they read, and never steer. */
export type ObservedNode = Pick<SandboxNode, "pods" | "containers" | "cgroups" | "cgroupRoot" | "observer"> & {
  readonly snapshots: Pick<SandboxNode["snapshots"], "directory" | "writableLayerUsage">;
  readonly network: Pick<SandboxNode["network"], "pendingRemovals">;
  readonly store: { readonly [Kind in "pods" | "containers"]: { readonly size: number } };
};

export interface PodCgroupSample {
  /** the pod's own cgroup with all its containers in it, or else its monitor's */
  path: string;
  whole: boolean;
  cgroup: CgroupSample;
}

export interface PodNetworkSample {
  pod: Pod;
  /** nanoseconds since the epoch */
  timestamp: number;
  /** without loopback */
  links: LinkStatistics[];
}

/** By container; of one that has ended there is none. Callers within 100 ms share a pass. */
export const containerCgroups = containerReadings(true);
/** The same without what only metrics have. */
export const containerUsages = containerReadings(false);

export type ContainerReadings = SharedReadings<ObservedNode, Container, CgroupSample>;

function containerReadings(details: boolean): ContainerReadings {
  return new SharedReadings(
    (node: ObservedNode) => node.containers.list(),
    ({ record }) => record.phase === "created" || record.phase === "running",
    async (node, containers) => {
      const paths = containers.map(({ record }) => record.cgroupPath);
      const samples = await node.cgroups.sample(paths, { details });
      return mapped(containers, ({ record }) => samples.get(record.cgroupPath));
    },
  );
}

/** By pod; of one that is not ready there is none. */
export const podCgroups = new SharedReadings(
  (node: ObservedNode) => node.pods.list(),
  isReady,
  async (node, pods) => {
    const shared = sharedParents(node);
    const places = new Map<Pod, { path: string; whole: boolean }>();
    for (const pod of pods) {
      const { cgroupParent, monitorCgroup } = pod.record;
      const whole = !shared.has(cgroupParent);
      places.set(pod, { path: whole ? cgroupParent : monitorCgroup, whole });
    }
    const samples = await node.cgroups.sample([...places.values()].map(({ path }) => path));
    return mapped(places.keys(), (pod): PodCgroupSample | undefined => {
      const place = places.get(pod);
      const cgroup = samples.get(place?.path ?? "");
      return place && cgroup && { ...place, cgroup };
    });
  },
);

/** By pod; of one that is not ready, or is in the host's network, there is none. */
export const podNetworks = new SharedReadings(
  (node: ObservedNode) => node.pods.list(),
  (pod) => isReady(pod) && pod.record.netnsPath !== "",
  (_node, pods) => readNetworks(pods),
);

function isReady({ record }: Pod): boolean {
  return record.phase === "ready";
}

/** Those whose cgroup parent counts nothing else. */
export function podsWithOwnCgroup(node: ObservedNode): Pod[] {
  const shared = sharedParents(node);
  return node.pods.list().filter((pod) => isReady(pod) && !shared.has(pod.record.cgroupParent));
}

/** The cgroup parents that count more than one pod: of several, of pods below them, and of all that name none. */
function sharedParents(node: ObservedNode): ReadonlySet<string> {
  const shared = new Set([node.cgroupRoot]);
  const seen = new Set<string>();
  for (const { record } of node.pods.list()) {
    for (let path = record.cgroupParent; path !== ""; path = path.slice(0, path.lastIndexOf("/"))) {
      if (seen.has(path)) shared.add(path);
      seen.add(path);
    }
  }
  return shared;
}

async function readNetworks(pods: readonly Pod[]): Promise<Map<Pod, PodNetworkSample>> {
  const result = new Map<Pod, PodNetworkSample>();
  if (pods.length === 0) return result;
  const { names, values } = await native.linkStatistics(pods.map(({ record }) => record.netnsPath));
  const timestamp = Date.now() * 1e6;
  let at = 0;
  for (const [index, pod] of pods.entries()) {
    const links = (names[index] ?? []).map((name) => linkOf(name, values, 8 * at++));
    // none: the namespace has gone meanwhile
    if (links.length > 0) result.set(pod, { pod, timestamp, links });
  }
  return result;
}

function linkOf(name: string, values: Float64Array, at: number): LinkStatistics {
  const value = (index: number) => values[at + index] ?? 0;
  return {
    name,
    rxBytes: value(0),
    rxPackets: value(1),
    rxErrors: value(2),
    rxDropped: value(3),
    txBytes: value(4),
    txPackets: value(5),
    txErrors: value(6),
    txDropped: value(7),
  };
}

function mapped<Item, Value>(items: Iterable<Item>, value: (item: Item) => Value | undefined): Map<Item, Value> {
  const result = new Map<Item, Value>();
  for (const item of items) {
    const found = value(item);
    if (found !== undefined) result.set(item, found);
  }
  return result;
}
