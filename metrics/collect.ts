/** One pass over the statistics of all pods and containers: each file is read once, however many ask at the time. */
import { type LinkStatistics, native } from "../native/binding.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { Container } from "../sandbox/container.js";
import type { SandboxNode } from "../sandbox/node.js";
import type { Pod } from "../sandbox/pod.js";
import { SharedPasses } from "./passes.js";

/** What metrics see of a node: they read, and never steer. */
export type ObservedNode = Pick<SandboxNode, "pods" | "containers" | "cgroups" | "observer">;

export interface ContainerSample {
  pod: Pod;
  container: Container;
  cgroup: CgroupSample;
}

export interface PodNetworkSample {
  pod: Pod;
  /** without loopback */
  links: LinkStatistics[];
}

export interface NodeSample {
  /** running containers; one that ended meanwhile is left out */
  containers: ContainerSample[];
  /** ready pods with a network of their own */
  networks: PodNetworkSample[];
}

/** How many network namespaces are entered at a time, each on a thread of its own. */
const threads = 4;

const containerPasses = new SharedPasses((node: ObservedNode) =>
  node.cgroups.sample(pathsOf(node.containers.list().filter(isThere))),
);
const networkPasses = new SharedPasses(sampleNetworks);

/** Statistics of all running containers and ready pods. Callers within 100 ms share one pass. */
export async function collect(node: ObservedNode): Promise<NodeSample> {
  const [containers, networks] = await Promise.all([collectContainers(node), collectNetworks(node)]);
  return { containers, networks };
}

/** The cgroups' half of collect(), for those who need no more. */
export async function collectContainers(node: ObservedNode): Promise<ContainerSample[]> {
  const samples = await containerPasses.take(node);
  const pods = new Map(node.pods.list().map((pod) => [pod.record.id, pod]));
  const result: ContainerSample[] = [];
  for (const container of node.containers.list()) {
    const { phase, podId, cgroupPath } = container.record;
    const pod = pods.get(podId);
    const cgroup = samples.get(cgroupPath);
    if (phase === "running" && pod !== undefined && cgroup !== undefined) result.push({ pod, container, cgroup });
  }
  return result;
}

/** The network half of collect(). */
export async function collectNetworks(node: ObservedNode): Promise<PodNetworkSample[]> {
  const samples = await networkPasses.take(node);
  return samples.filter(({ pod }) => pod.record.phase === "ready");
}

/**
 * The samples of these containers (and perhaps of others) by their cgroups' paths; what has ended has none. A few are read
 * by themselves, unless somebody has read all of them just now.
 */
export async function sampleContainers(
  node: ObservedNode,
  containers: readonly Container[],
): Promise<ReadonlyMap<string, CgroupSample>> {
  const few = containers.length * 4 <= node.containers.size;
  const samples = await (few ? containerPasses.latest(node) : containerPasses.take(node));
  const missing = containers.filter((one) => isThere(one) && samples?.has(one.record.cgroupPath) !== true);
  if (missing.length === 0) return samples ?? new Map();
  return new Map([...(samples ?? []), ...(await node.cgroups.sample(pathsOf(missing)))]);
}

function isThere({ record }: Container): boolean {
  return record.phase === "created" || record.phase === "running";
}

function pathsOf(containers: readonly Container[]): string[] {
  return containers.map(({ record }) => record.cgroupPath);
}

async function sampleNetworks(node: ObservedNode): Promise<PodNetworkSample[]> {
  const pods = node.pods.list().filter(({ record }) => record.phase === "ready" && record.netnsPath !== "");
  const result: PodNetworkSample[] = [];
  const left = pods.values();
  async function work(): Promise<void> {
    for (const pod of left) {
      const links = await linksIn(pod.record.netnsPath);
      if (links.length > 0) result.push({ pod, links });
    }
  }
  await Promise.all(Array.from({ length: threads }, work));
  return result;
}

/** None when the namespace has gone meanwhile. */
async function linksIn(netnsPath: string): Promise<LinkStatistics[]> {
  let namespaceFd: number;
  try {
    namespaceFd = native.openPath(netnsPath);
  } catch {
    return [];
  }
  try {
    const links = await native.listLinks({ namespaceFd });
    return links.filter(({ name }) => name !== "lo");
  } catch {
    return [];
  } finally {
    native.closeDescriptor(namespaceFd);
  }
}
