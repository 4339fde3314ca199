import { type Fact, fact, type Section, type Subject } from "./fact.js";

const field = "linux.resources";

export function limitFacts({ spec }: Subject): Section {
  const { memory, cpu, pids, hugepageLimits, blockIO, unified } = spec.linux.resources;
  const facts: Fact[] = [
    fact(`its cgroup is ${spec.linux.cgroupsPath}`, "pod: linux.cgroup_parent", "mkdir() in every hierarchy"),
  ];
  const add = (value: number | string | undefined, what: (value: string) => string, name: string, by: string) => {
    if (value !== undefined) facts.push(fact(what(String(value)), `${field}.${name}`, by));
  };
  add(
    known(memory?.limit),
    (bytes) => `at most ${bytes} bytes of memory; more, and the kernel kills`,
    "memory_limit_in_bytes",
    "memory.limit_in_bytes (v1), memory.max (v2)",
  );
  add(
    known(memory?.swap),
    (bytes) => `at most ${bytes} bytes of memory and swap together`,
    "memory_swap_limit_in_bytes",
    "memory.memsw.limit_in_bytes (v1), memory.swap.max (v2)",
  );
  add(
    cpu?.shares,
    (shares) => `${shares} shares of the processors when they are scarce (1024 is one processor's)`,
    "cpu_shares",
    "cpu.shares (v1), cpu.weight (v2)",
  );
  if (known(cpu?.quota) !== undefined) {
    const period = cpu?.period ?? 100_000;
    facts.push(
      fact(
        `at most ${cpu?.quota} µs of processor time in each ${period} µs: ${((cpu?.quota ?? 0) / period).toFixed(2)} processors`,
        `${field}.cpu_quota and cpu_period`,
        "cpu.cfs_quota_us (v1), cpu.max (v2)",
      ),
    );
  }
  add(cpu?.cpus, (cpus) => `on the processors ${cpus} alone`, "cpuset_cpus", "cpuset.cpus");
  add(cpu?.mems, (mems) => `with memory of the nodes ${mems} alone`, "cpuset_mems", "cpuset.mems");
  add(known(pids?.limit), (limit) => `at most ${limit} processes and threads`, "unified", "pids.max");
  for (const { pageSize, limit } of hugepageLimits ?? []) {
    add(
      limit,
      (bytes) => `at most ${bytes} bytes of pages of ${pageSize}`,
      "hugepage_limits",
      `hugetlb.${pageSize}.max`,
    );
  }
  if (blockIO !== undefined)
    facts.push(fact("its block IO is limited by a class", "a blockio annotation", "blkio.* (v1), io.* (v2)"));
  for (const [name, value] of Object.entries(unified ?? {}))
    add(value, (text) => `${name} is ${text}`, "unified", name);
  if (facts.length === 1)
    facts.push(fact("no limit but those of the cgroups above it", `${field} is empty`, "nothing"));
  return { title: "Limits: how much it gets", facts };
}

/** -1: there is none. */
function known(limit: number | undefined): number | undefined {
  return limit === undefined || limit < 0 ? undefined : limit;
}
