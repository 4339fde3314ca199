/** cgroup v1's statistics: its files and their words. What is nested below a cgroup counts as its own. */
import type { SampleFile } from "./samples.js";

/** cpuacct.stat counts in USER_HZ, which is 100 on every architecture that Linux' ABI knows. */
const userTickNs = 10_000_000;

const files: (Omit<SampleFile, "root"> & { controller: string })[] = [
  { controller: "cpuacct", file: "cpuacct.usage", pulse: true, keys: [["", "cpuUsageNs"]] },
  { controller: "pids", file: "pids.current", detail: true, pulse: true, keys: [["", "threads"]] },
  {
    controller: "cpuacct",
    file: "cpuacct.stat",
    detail: true,
    steady: true,
    keys: [
      ["user", "cpuUserNs", userTickNs],
      ["system", "cpuSystemNs", userTickNs],
    ],
  },
  {
    controller: "cpu",
    file: "cpu.stat",
    detail: true,
    steady: true,
    keys: [
      ["nr_periods", "cpuPeriods"],
      ["nr_throttled", "cpuThrottledPeriods"],
      ["throttled_time", "cpuThrottledNs"],
    ],
  },
  { controller: "memory", file: "memory.usage_in_bytes", keys: [["", "memoryUsageBytes"]] },
  {
    controller: "memory",
    file: "memory.stat",
    // in the order in which the kernel writes them
    keys: [
      ["pgfault", "ownPageFaults"],
      ["pgmajfault", "ownMajorPageFaults"],
      ["hierarchical_memory_limit", "hierarchicalMemoryLimitBytes"],
      ["hierarchical_memsw_limit", "memoryAndSwapLimitBytes"],
      ["total_cache", "memoryCacheBytes"],
      ["total_rss", "memoryRssBytes"],
      ["total_mapped_file", "memoryMappedFileBytes"],
      ["total_swap", "swapUsageBytes"],
      ["total_pgfault", "pageFaults"],
      ["total_pgmajfault", "majorPageFaults"],
      ["total_inactive_file", "memoryInactiveFileBytes"],
      ["total_active_file", "memoryActiveFileBytes"],
    ],
  },
  { controller: "memory", file: "memory.limit_in_bytes", keys: [["", "memoryLimitBytes"]] },
  { controller: "memory", file: "memory.max_usage_in_bytes", detail: true, keys: [["", "memoryMaxUsageBytes"]] },
  { controller: "memory", file: "memory.failcnt", detail: true, keys: [["", "memoryFailures"]] },
  { controller: "memory", file: "memory.kmem.usage_in_bytes", detail: true, keys: [["", "memoryKernelBytes"]] },
  { controller: "memory", file: "memory.oom_control", detail: true, steady: true, keys: [["oom_kill", "oomKills"]] },
  { controller: "pids", file: "pids.max", detail: true, keys: [["", "pidsLimit"]] },
  { controller: "pids", file: "cgroup.procs", detail: true, steady: true, countedAs: "processes" },
];

/** `roots`: where each controller's hierarchy is mounted. */
export function v1SampleFiles(roots: ReadonlyMap<string, string>): SampleFile[] {
  return files.flatMap(({ controller, ...file }) => {
    const root = roots.get(controller);
    return root === undefined ? [] : [{ root, ...file }];
  });
}
