import type { runtime } from "../../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "../errors.js";
import { sysResourceBit } from "./capabilities.js";
import { toNumber } from "./numbers.js";
import type { LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources } from "./oci.js";

const mebibyte = 1024 * 1024;
/** Less does not hold a process with its page tables; the field's runtimes refuse it, too. */
const minMemoryBytes = 6 * mebibyte;
/** The kernel's bounds, microseconds. */
const minCpuMicroseconds = 1000;
const maxCpuPeriod = 1_000_000;
const minShares = 2;
const maxShares = 262_144;

/**
 * The CRI's resources as the OCI's, checked; what is 0 or empty stays absent. A memory limit without a swap limit allows
 * no swap. `field` is where they stand in the request: "config.linux.resources".
 */
export function linuxResources(
  resources: runtime.v1.ILinuxContainerResources | null | undefined,
  { field, cgroupMode }: { field: string; cgroupMode: "v1" | "hybrid" | "v2" },
): LinuxResources {
  if (!resources) return {};
  const cpu = cpuOf(resources, field);
  const memory = memoryOf(resources, field);
  const hugepageLimits = hugepagesOf(resources, field);
  const { pids, unified } = unifiedOf(resources, field, cgroupMode);
  return {
    ...(Object.keys(cpu).length > 0 && { cpu }),
    ...(Object.keys(memory).length > 0 && { memory }),
    ...(pids !== undefined && { pids: { limit: pids } }),
    ...(hugepageLimits.length > 0 && { hugepageLimits }),
    ...(Object.keys(unified).length > 0 && { unified }),
  };
}

/** The resources after a change, which leaves as it was what it does not say. A memory limit is changed with that of swap. */
export function changedResources(old: LinuxResources, changed: LinuxResources): LinuxResources {
  const { limit: _, swap: __, ...memory } = old.memory ?? {};
  const sizes = new Set(changed.hugepageLimits?.map(({ pageSize }) => pageSize));
  const otherSizes = old.hugepageLimits?.filter(({ pageSize }) => !sizes.has(pageSize)) ?? [];
  return {
    ...old,
    ...changed,
    ...(changed.cpu && { cpu: { ...old.cpu, ...changed.cpu } }),
    ...(changed.memory && { memory: { ...memory, ...changed.memory } }),
    ...(changed.hugepageLimits && { hugepageLimits: [...otherSizes, ...changed.hugepageLimits] }),
    ...(changed.unified && { unified: { ...old.unified, ...changed.unified } }),
  };
}

/** -1000 to 1000; 0 when it is not said. */
export function oomScoreAdj(resources: runtime.v1.ILinuxContainerResources | null | undefined, field: string): number {
  const value = toNumber(resources?.oom_score_adj, `${field}.oom_score_adj`);
  if (value < -1000 || value > 1000) {
    throw new InvalidArgumentError(`${field}.oom_score_adj: ${value} is not within -1000 and 1000`);
  }
  return value;
}

/** Without CAP_SYS_RESOURCE nobody below the agent gets a lower one than it has itself. */
export function allowedOomScoreAdj(asked: number, agent: { capabilities: bigint; oomScoreAdj: number }): number {
  return (agent.capabilities & sysResourceBit) !== 0n ? asked : Math.max(asked, agent.oomScoreAdj);
}

function cpuOf(resources: runtime.v1.ILinuxContainerResources, field: string): LinuxCpu {
  const period = toNumber(resources.cpu_period, `${field}.cpu_period`);
  const quota = toNumber(resources.cpu_quota, `${field}.cpu_quota`);
  const shares = toNumber(resources.cpu_shares, `${field}.cpu_shares`);
  if (period !== 0 && (period < minCpuMicroseconds || period > maxCpuPeriod)) {
    throw new InvalidArgumentError(
      `${field}.cpu_period: ${period} is not within ${minCpuMicroseconds} and ${maxCpuPeriod} microseconds`,
    );
  }
  if (quota < -1 || (quota > 0 && quota < minCpuMicroseconds)) {
    throw new InvalidArgumentError(
      `${field}.cpu_quota: ${quota} is neither -1 (no limit) nor at least ${minCpuMicroseconds} microseconds`,
    );
  }
  if (shares < 0) throw new InvalidArgumentError(`${field}.cpu_shares: ${shares} is negative`);
  return {
    ...(shares !== 0 && { shares: Math.min(Math.max(shares, minShares), maxShares) }),
    ...(quota !== 0 && { quota }),
    ...(period !== 0 && { period }),
    ...(resources.cpuset_cpus && { cpus: checkList(resources.cpuset_cpus, `${field}.cpuset_cpus`) }),
    ...(resources.cpuset_mems && { mems: checkList(resources.cpuset_mems, `${field}.cpuset_mems`) }),
  };
}

/** "0-3,7" */
function checkList(list: string, field: string): string {
  for (const range of list.split(",")) {
    const numbers = /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(range);
    if (numbers === null || Number(numbers[2] ?? numbers[1]) < Number(numbers[1])) {
      throw new InvalidArgumentError(`${field}: ${JSON.stringify(list)} is no list of numbers and ranges`);
    }
  }
  return list;
}

function memoryOf(resources: runtime.v1.ILinuxContainerResources, field: string): LinuxMemory {
  const limit = toNumber(resources.memory_limit_in_bytes, `${field}.memory_limit_in_bytes`);
  const swap = toNumber(resources.memory_swap_limit_in_bytes, `${field}.memory_swap_limit_in_bytes`);
  if (limit < -1 || (limit > 0 && limit < minMemoryBytes)) {
    throw new InvalidArgumentError(
      `${field}.memory_limit_in_bytes: ${limit} is too little; at least ${minMemoryBytes} bytes are needed`,
    );
  }
  if (swap < -1) throw new InvalidArgumentError(`${field}.memory_swap_limit_in_bytes: ${swap} is negative`);
  if (swap > 0 && limit <= 0) {
    throw new InvalidArgumentError(`${field}.memory_swap_limit_in_bytes: it needs a memory_limit_in_bytes`);
  }
  if (swap > 0 && swap < limit) {
    throw new InvalidArgumentError(
      `${field}.memory_swap_limit_in_bytes: ${swap} counts memory and swap together and is less than the memory limit`,
    );
  }
  const effectiveSwap = swap === 0 && limit > 0 ? limit : swap;
  return { ...(limit !== 0 && { limit }), ...(effectiveSwap !== 0 && { swap: effectiveSwap }) };
}

function hugepagesOf(resources: runtime.v1.ILinuxContainerResources, field: string): LinuxHugepageLimit[] {
  return (resources.hugepage_limits ?? []).map(({ page_size: pageSize, limit }, index) => {
    if (!pageSize || !/^[1-9][0-9]{0,5}[KMG]B$/.test(pageSize)) {
      throw new InvalidArgumentError(
        `${field}.hugepage_limits[${index}].page_size: ${JSON.stringify(pageSize ?? "")} is no size as 2MB or 1GB`,
      );
    }
    return { pageSize, limit: toNumber(limit, `${field}.hugepage_limits[${index}].limit`) };
  });
}

/** pids.max is understood on every hierarchy: the CRI has no field of its own for it. */
function unifiedOf(
  resources: runtime.v1.ILinuxContainerResources,
  field: string,
  cgroupMode: "v1" | "hybrid" | "v2",
): { pids?: number; unified: Record<string, string> } {
  const unified: Record<string, string> = {};
  let pids: number | undefined;
  for (const [key, value] of Object.entries(resources.unified ?? {})) {
    const where = `${field}.unified[${JSON.stringify(key)}]`;
    if (!/^[a-z0-9_]+(\.[a-zA-Z0-9_]+)+$/.test(key) || key.startsWith("cgroup.")) {
      throw new InvalidArgumentError(`${where}: it is no name of a controller's file`);
    }
    if (key === "pids.max") {
      if (value !== "max" && !/^[1-9][0-9]{0,8}$/.test(value)) {
        throw new InvalidArgumentError(`${where}: ${JSON.stringify(value)} is neither "max" nor a number of processes`);
      }
      pids = value === "max" ? -1 : Number(value);
    } else if (cgroupMode !== "v2") {
      throw new InvalidArgumentError(`${where}: this host has no cgroup v2 controllers`);
    } else {
      unified[key] = value;
    }
  }
  return { ...(pids !== undefined && { pids }), unified };
}
