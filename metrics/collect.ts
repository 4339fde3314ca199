/** One pass over the statistics of all pods and containers: each file is read once, however many ask at the time. */
import { type LinkStatistics, native } from "../native/binding.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { Container } from "../sandbox/container.js";
import type { SandboxNode } from "../sandbox/node.js";
import type { Pod } from "../sandbox/pod.js";

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

/** For how long a pass serves further callers, from its beginning; one that takes longer serves them until it ends. */
const freshMs = 100;
/** How many network namespaces are entered at a time, each on a thread of its own. */
const threads = 4;

interface Pass<T> {
  begunAtMs: number;
  done: boolean;
  result: Promise<T>;
}

const containerPasses = new WeakMap<ObservedNode, Pass<ContainerSample[]>>();
const networkPasses = new WeakMap<ObservedNode, Pass<PodNetworkSample[]>>();

/** Statistics of all running containers and ready pods. Callers within 100 ms share one pass. */
export async function collect(node: ObservedNode): Promise<NodeSample> {
  const [containers, networks] = await Promise.all([collectContainers(node), collectNetworks(node)]);
  return { containers, networks };
}

/** The cgroups' half of collect(), for those who need no more. */
export async function collectContainers(node: ObservedNode): Promise<ContainerSample[]> {
  const samples = await shared(containerPasses, node, sampleContainers);
  // a pass that others began may know containers that have ended since
  return samples.filter(({ container }) => container.record.phase === "running");
}

/** The network half of collect(). */
export async function collectNetworks(node: ObservedNode): Promise<PodNetworkSample[]> {
  const samples = await shared(networkPasses, node, sampleNetworks);
  return samples.filter(({ pod }) => pod.record.phase === "ready");
}

function shared<T>(
  passes: WeakMap<ObservedNode, Pass<T>>,
  node: ObservedNode,
  run: (node: ObservedNode) => Promise<T>,
): Promise<T> {
  const nowMs = performance.now();
  const latest = passes.get(node);
  if (latest !== undefined && (!latest.done || nowMs - latest.begunAtMs < freshMs)) return latest.result;
  const pass = { begunAtMs: nowMs, done: false, result: run(node) };
  passes.set(node, pass);
  pass.result.then(
    () => {
      pass.done = true;
    },
    // A pass that failed serves nobody else.
    () => passes.delete(node),
  );
  return pass.result;
}

async function sampleContainers(node: ObservedNode): Promise<ContainerSample[]> {
  const pods = new Map(node.pods.list().map((pod) => [pod.record.id, pod]));
  const running = node.containers.list().filter(({ record }) => record.phase === "running");
  const samples = await node.cgroups.sample(running.map(({ record }) => record.cgroupPath));
  const result: ContainerSample[] = [];
  for (const container of running) {
    const pod = pods.get(container.record.podId);
    const cgroup = samples.get(container.record.cgroupPath);
    if (pod !== undefined && cgroup !== undefined) result.push({ pod, container, cgroup });
  }
  return result;
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
