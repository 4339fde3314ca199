/** What another memory limit would mean for a cgroup, by what is in use now; and what its limit has meant so far. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Hierarchy } from "../../sandbox/cgroup/manager.js";
import { size } from "./usage.js";

export interface MemoryNow {
  version: 1 | 2;
  usageBytes: number;
  /** pages of files that can be read again, and what the kernel keeps but can do without (v2) */
  reclaimableBytes: number;
  /** what may still be moved to swap */
  swappableBytes: number;
  /** how often the limit was met, and processes were killed for it */
  limitMet: number;
  killed: number;
  /** v2: all that was taken back since the cgroup was made */
  reclaimedBytes?: number;
  /** of files' pages that were taken back, those that had to be read again */
  readAgainBytes?: number;
}

export interface WhatIf {
  limitBytes: number;
  /** what the kernel would take back, and move to swap */
  reclaimedBytes: number;
  swappedBytes: number;
  /** what would be in use beyond the limit nevertheless */
  missingBytes: number;
}

export function whatIf(now: MemoryNow, limitBytes: number): WhatIf {
  const over = Math.max(0, now.usageBytes - limitBytes);
  const reclaimedBytes = Math.min(over, now.reclaimableBytes);
  const swappedBytes = Math.min(over - reclaimedBytes, now.swappableBytes);
  return { limitBytes, reclaimedBytes, swappedBytes, missingBytes: over - reclaimedBytes - swappedBytes };
}

/** Undefined: the cgroup is gone, or the host has no memory controller. */
export function memoryNow(hierarchies: readonly Hierarchy[], path: string): MemoryNow | undefined {
  const place = hierarchies.find(({ controllers }) => controllers.includes("memory"));
  if (place === undefined) return undefined;
  const text = (name: string) => readText(join(place.mountPoint, path, name));
  const stat = numbers(text("memory.stat") ?? "");
  return place.version === 2 ? ofV2(text, stat) : ofV1(text, stat);
}

type Read = (name: string) => string | undefined;
type Numbers = (name: string) => number;

function ofV2(text: Read, stat: Numbers): MemoryNow | undefined {
  const usage = text("memory.current");
  if (usage === undefined) return undefined;
  const events = numbers(text("memory.events") ?? "");
  const swapMost = Number((text("memory.swap.max") ?? "0").replace("max", "Infinity"));
  const swapLeft = Math.min(swapMost - Number(text("memory.swap.current") ?? 0), freeSwapBytes());
  return {
    version: 2,
    usageBytes: Number(usage),
    reclaimableBytes: stat("inactive_file") + stat("active_file") + stat("slab_reclaimable"),
    swappableBytes: Math.max(0, Math.min(swapLeft, stat("inactive_anon") + stat("active_anon"))),
    limitMet: events("max"),
    killed: events("oom_kill"),
    reclaimedBytes: stat("pgsteal") * pageBytes,
    readAgainBytes: stat("workingset_refault_file") * pageBytes,
  };
}

function ofV1(text: Read, stat: Numbers): MemoryNow | undefined {
  const usage = text("memory.usage_in_bytes");
  if (usage === undefined) return undefined;
  const both = Number(text("memory.memsw.limit_in_bytes") ?? 0);
  const used = Number(text("memory.memsw.usage_in_bytes") ?? 0);
  return {
    version: 1,
    usageBytes: Number(usage),
    reclaimableBytes: stat("total_inactive_file") + stat("total_active_file"),
    swappableBytes: Math.max(
      0,
      Math.min(both - used, freeSwapBytes(), stat("total_inactive_anon") + stat("total_active_anon")),
    ),
    limitMet: Number(text("memory.failcnt") ?? 0),
    killed: numbers(text("memory.oom_control") ?? "")("oom_kill"),
    readAgainBytes: stat("total_workingset_refault_file") * pageBytes,
  };
}

// the sizes that other pages may have are a choice of arm64 and ppc64 kernels; there these two sums are too small
const pageBytes = 4096;

function numbers(text: string): Numbers {
  const found = new Map(text.split("\n").map((line) => line.split(" ") as [string, string]));
  return (name) => Number(found.get(name) ?? 0);
}

function freeSwapBytes(): number {
  return Number(/^SwapFree: +(\d+) kB/m.exec(readText("/proc/meminfo") ?? "")?.[1] ?? 0) * 1024;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** For people. */
export function sentences(now: MemoryNow, what: WhatIf): string[] {
  const { usageBytes, reclaimableBytes, limitMet, killed, reclaimedBytes, readAgainBytes } = now;
  const taken = [
    ...(reclaimedBytes === undefined ? [] : [`${size(reclaimedBytes)} taken back`]),
    ...(readAgainBytes === undefined ? [] : [`${size(readAgainBytes)} of files had to be read again`]),
  ];
  const rest = usageBytes - reclaimableBytes;
  return [
    `in use: ${size(usageBytes)}; the kernel can take back ${size(reclaimableBytes)} of it, not the other ${size(rest)}`,
    `so far: the limit was met ${limitMet} times, ${killed} processes were killed for it, ${taken.join(", ")}`,
    `with ${size(what.limitBytes)}: ${consequence(now, what)}`,
  ];
}

function consequence(now: MemoryNow, { reclaimedBytes, swappedBytes, missingBytes }: WhatIf): string {
  if (reclaimedBytes === 0 && swappedBytes === 0 && missingBytes === 0) return "nothing would have to go";
  const swapped = swappedBytes > 0 ? `, ${size(swappedBytes)} moved to swap` : "";
  const gone = `${size(reclaimedBytes)} would be taken back${swapped}`;
  if (missingBytes === 0) return `${gone}, and the rest would fit`;
  const end = now.version === 1 ? "the kernel would refuse this limit now" : "processes would be killed until it fits";
  return `${gone}, and ${size(missingBytes)} would be too much: ${end}`;
}
