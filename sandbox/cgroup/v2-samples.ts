/** cgroup v2's statistics: its files and their words. What is nested below a cgroup counts as its own. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { SampleFile, SampleKey } from "./samples.js";

const microsecondNs = 1000;

const files: (Omit<SampleFile, "root"> & { controller: string })[] = [
  {
    controller: "cpu",
    file: "cpu.stat",
    pulse: true,
    keys: [
      ["usage_usec", "cpuUsageNs", microsecondNs],
      ["user_usec", "cpuUserNs", microsecondNs],
      ["system_usec", "cpuSystemNs", microsecondNs],
      ["nr_periods", "cpuPeriods"],
      ["nr_throttled", "cpuThrottledPeriods"],
      ["throttled_usec", "cpuThrottledNs", microsecondNs],
    ],
  },
  { controller: "pids", file: "pids.current", detail: true, pulse: true, keys: [["", "threads"]] },
  { controller: "memory", file: "memory.current", keys: [["", "memoryUsageBytes"]] },
  {
    controller: "memory",
    file: "memory.stat",
    // in the order in which the kernel writes them
    keys: [
      ["anon", "memoryRssBytes"],
      ["file", "memoryCacheBytes"],
      ["kernel", "memoryKernelBytes"],
      ["file_mapped", "memoryMappedFileBytes"],
      ["inactive_file", "memoryInactiveFileBytes"],
      ["active_file", "memoryActiveFileBytes"],
      ["pgfault", "pageFaults"],
      ["pgmajfault", "majorPageFaults"],
    ],
  },
  { controller: "memory", file: "memory.max", keys: [["", "memoryLimitBytes"]] },
  { controller: "memory", file: "memory.peak", detail: true, keys: [["", "memoryMaxUsageBytes"]] },
  {
    controller: "memory",
    file: "memory.events",
    detail: true,
    keys: [
      ["max", "memoryFailures"],
      ["oom_kill", "oomKills"],
    ],
  },
  { controller: "memory", file: "memory.swap.current", keys: [["", "swapUsageBytes"]] },
  { controller: "memory", file: "memory.swap.max", keys: [["", "swapLimitBytes"]] },
  { controller: "pids", file: "pids.max", detail: true, keys: [["", "pidsLimit"]] },
  { controller: "pids", file: "cgroup.procs", detail: true, steady: true, countedAs: "processes" },
];

/** Pressure (PSI) needs no controller; a kernel without it has no such files. */
const pressureFiles: { file: string; keys: readonly SampleKey[] }[] = (["cpu", "memory", "io"] as const).map(
  (resource) => ({
    file: `${resource}.pressure`,
    keys: [
      ["some avg10", `${resource}SomeAvg10`],
      ["some avg60", `${resource}SomeAvg60`],
      ["some avg300", `${resource}SomeAvg300`],
      ["some total", `${resource}SomeNs`, microsecondNs],
      ["full avg10", `${resource}FullAvg10`],
      ["full avg60", `${resource}FullAvg60`],
      ["full avg300", `${resource}FullAvg300`],
      ["full total", `${resource}FullNs`, microsecondNs],
    ],
  }),
);

/** Of the hierarchy at `root`, as far as its controllers go. */
export function v2SampleFiles(root: string, controllers: ReadonlySet<string>): SampleFile[] {
  const result: SampleFile[] = files
    .filter(({ controller }) => controllers.has(controller))
    .map(({ controller: _, ...file }) => ({ root, ...file }));
  for (const { file, keys } of pressureFiles) if (existsSync(join(root, file))) result.push({ root, file, keys });
  return result;
}
