/** What ContainerStatus tells of a container's resources: the request's values as far as the kernel has them in force. */
import Long from "long";
import type { runtime } from "../cri-proto/generated/runtime.js";
import type { CgroupLimits } from "./cgroup/manager.js";
import { sharesToWeight } from "./cgroup/resources.js";
import type { Container } from "./container.js";
import type { SandboxNode } from "./node.js";

type Resources = runtime.v1.ILinuxContainerResources;

const pageBytes = 4096;
const defaultShares = 1024;
const defaultPeriod = 100_000;
const largestShares = 262_144;

/** Reads the limits of a container that lives back from its cgroup; of one that has ended the last ones are told. */
export async function resourcesInForce(node: SandboxNode, container: Container): Promise<Resources | null> {
  const asked = container.config.linux?.resources ?? null;
  const { phase, cgroupPath } = container.record;
  if (phase !== "created" && phase !== "running") return asked;
  return overlay(asked ?? {}, await node.cgroups.limits(cgroupPath));
}

/**
 * The kernel's values over the request's. What the kernel had to round (memory to pages, shares to a weight) is told as
 * it was asked for: whoever compares the two would otherwise never be done. What was not asked for and has the kernel's
 * default stays unsaid.
 */
export function overlay(asked: Resources, limits: CgroupLimits): Resources {
  const number = (value: Long | number | null | undefined) => Number(value?.toString() ?? 0);
  const told: Resources = { ...asked };
  const put = (field: keyof Resources, inForce: number | undefined, same: (wanted: number) => boolean): void => {
    if (inForce === undefined || same(number(asked[field] as Long | null | undefined))) return;
    Object.assign(told, { [field]: Long.fromNumber(inForce) });
  };
  const sameBytes = (inForce: number) => (wanted: number) =>
    inForce < 0 ? wanted <= 0 : Math.floor(wanted / pageBytes) * pageBytes === inForce;
  const { memoryBytes, memoryAndSwapBytes, cpuShares, cpuWeight, cpuQuota, cpuPeriod } = limits;
  put("memory_limit_in_bytes", memoryBytes, sameBytes(memoryBytes ?? 0));
  put(
    "memory_swap_limit_in_bytes",
    memoryAndSwapBytes,
    // no swap was asked for: then both limits are one
    (wanted) => sameBytes(memoryAndSwapBytes ?? 0)(wanted) || (wanted === 0 && memoryAndSwapBytes === memoryBytes),
  );
  put("cpu_shares", cpuShares, (wanted) => (wanted === 0 ? defaultShares : Math.max(wanted, 2)) === cpuShares);
  if (cpuWeight !== undefined) {
    put("cpu_shares", weightToShares(cpuWeight), (wanted) => sharesToWeight(wanted || defaultShares) === cpuWeight);
  }
  put("cpu_quota", cpuQuota, (wanted) => (cpuQuota === -1 ? wanted <= 0 : wanted === cpuQuota));
  put("cpu_period", cpuPeriod, (wanted) => (wanted || defaultPeriod) === cpuPeriod);
  // a cpuset that was not asked for is the parent's, and may change with it
  if (asked.cpuset_cpus && limits.cpus) told.cpuset_cpus = sameList(asked.cpuset_cpus, limits.cpus);
  if (asked.cpuset_mems && limits.mems) told.cpuset_mems = sameList(asked.cpuset_mems, limits.mems);
  return told;
}

/** The smallest shares that have this weight. */
function weightToShares(weight: number): number {
  let low = 2;
  let high = largestShares;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (sharesToWeight(middle) >= weight) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The list as it was asked for when it names the same numbers as the kernel's, else the kernel's. */
function sameList(asked: string, inForce: string): string {
  const numbers = (list: string) =>
    list.split(",").flatMap((range) => {
      const [first = 0, last = first] = range.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
  const set = (list: string) => [...new Set(numbers(list))].sort((a, b) => a - b).join(",");
  return set(asked) === set(inForce) ? asked : inForce;
}
