/** Resources in the OCI's terms, which are cgroup v1's, converted to what files take. Pure. */
import { InvalidArgumentError } from "../errors.js";
import type { LinuxResources } from "../spec/oci.js";

/** The smallest memory limit that is one to the kernel: it counts pages, and fewer bytes than one are no memory at all. */
export const smallestMemoryLimitBytes = 4096;

/**
 * cpu.weight (1 to 10000) for cpu.shares (2 to 262144), by the curve that runc 1.3.2, crun 1.23 and later use: through
 * (2, 1), (1024, 100) and (262144, 10000) on logarithmic scales, rounded up. (Before 2025 the field had a straight line,
 * which made 39 of the default 1024.)
 */
export function sharesToWeight(shares: number): number {
  if (shares <= 2) return 1;
  if (shares >= 262_144) return 10_000;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

/** memory.swap.max for the OCI's memory+swap limit. Undefined: nothing is said about swap. */
export function swapOnly(options: { swap: number | undefined; limit: number | undefined }): number | undefined {
  const { swap, limit } = options;
  if (swap === undefined) return limit !== undefined && limit < 0 ? -1 : undefined;
  if (swap < 0 || limit === undefined || limit < 0) return swap;
  if (swap < limit) {
    throw new InvalidArgumentError(`memory_swap_limit_in_bytes ${swap} is less than memory_limit_in_bytes ${limit}`);
  }
  return swap - limit;
}

/** io.weight (1 to 10000) for the OCI's block-IO weight (10 to 1000), on a straight line as the field has it. */
export function toIoWeight(weight: number): number {
  return 1 + Math.floor(((weight - 10) * 9999) / 990);
}

/** Decimal without an exponent, or "max" below zero. */
export function orMax(value: number): string {
  return value < 0 ? "max" : decimal(value);
}

/** Decimal without an exponent; every negative number is v1's -1. */
export function orMinusOne(value: number): string {
  return value < 0 ? "-1" : decimal(value);
}

export function decimal(value: number): string {
  return Number.isSafeInteger(value) ? String(value) : BigInt(Math.trunc(value)).toString();
}

/** A field that is set, and the controller that it needs. */
export interface Need {
  field: string;
  controller: string;
  /** in the cgroup2 hierarchy, no other will do */
  unified?: boolean;
}

/**
 * Refuses what no kernel could be told, before anything is made; answers which controller each field that is set needs.
 */
export function checkResources(resources: LinuxResources): Need[] {
  const { cpu, memory, pids, hugepageLimits, blockIO, unified, devices } = resources;
  const numbers: [field: string, controller: string, value: number | undefined][] = [
    ["cpu_shares", "cpu", cpu?.shares],
    ["cpu_quota", "cpu", cpu?.quota],
    ["cpu_period", "cpu", cpu?.period],
    ["memory_limit_in_bytes", "memory", memory?.limit],
    ["memory_swap_limit_in_bytes", "memory", memory?.swap],
    ["memory.reservation", "memory", memory?.reservation],
    ["memory.swappiness", "memory", memory?.swappiness],
    ["pids.limit", "pids", pids?.limit],
  ];
  const needs: Need[] = [];
  for (const [field, controller, value] of numbers) {
    if (value === undefined) continue;
    if (!Number.isInteger(value)) throw new InvalidArgumentError(`${field} ${value} is no whole number`);
    needs.push({ field, controller });
  }
  const limit = memory?.limit ?? -1;
  if (limit >= 0 && limit < smallestMemoryLimitBytes) {
    throw new InvalidArgumentError(
      `memory_limit_in_bytes ${limit} is less than a page, which is the least: ${smallestMemoryLimitBytes}`,
    );
  }
  swapOnly({ swap: memory?.swap, limit: memory?.limit });
  if (cpu?.cpus) needs.push({ field: "cpuset_cpus", controller: "cpuset" });
  if (cpu?.mems) needs.push({ field: "cpuset_mems", controller: "cpuset" });
  if (devices !== undefined && devices.length > 0) needs.push({ field: "devices", controller: "devices" });
  for (const { pageSize, limit: bytes } of hugepageLimits ?? []) {
    checkPageSize(pageSize);
    // The kubelet names every page size of the host in every request: no pages of it need no controller.
    if (bytes > 0) needs.push({ field: `hugepage_limits ${pageSize}`, controller: "hugetlb" });
  }
  if (blockIO !== undefined && Object.keys(blockIO).length > 0) {
    needs.push({ field: "the block-IO class", controller: "blkio" });
  }
  for (const name of Object.keys(unified ?? {})) {
    needs.push({ field: `unified "${name}"`, controller: checkUnifiedName(name).controller, unified: true });
  }
  return needs;
}

/** "2MB" of a file name, from the CRI's or OCI's page size. */
export function checkPageSize(pageSize: string): string {
  if (!/^[1-9][0-9]{0,9}[KMG]B$/.test(pageSize)) {
    throw new InvalidArgumentError(`hugepage_limits: page size "${pageSize}" is not of the form 2MB`);
  }
  return pageSize;
}

/** A name of the `unified` map: a file of a controller, in this very cgroup. */
export function checkUnifiedName(name: string): { controller: string } {
  const [, controller] = /^([a-z]+)\.[a-zA-Z0-9_.]+$/.exec(name) ?? [];
  if (controller === undefined || controller === "cgroup") {
    throw new InvalidArgumentError(`unified: "${name}" is not a controller's file, as memory.high is`);
  }
  return { controller };
}
