/** The values of a cgroup that people ask for, each with the file that it stands in: v1's names, and v2's. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Hierarchy } from "../../sandbox/cgroup/manager.js";
import { size } from "./usage.js";

export interface CgroupValue {
  what: string;
  value: string;
  file: string;
}

interface Place {
  what: string;
  /** [controller, file] of each version; "" is no controller's */
  v1?: readonly [string, string];
  v2?: readonly [string, string];
  show?: (text: string) => string | undefined;
}

const bytes = (text: string) => (text === "max" || Number(text) >= 2 ** 62 ? "none" : size(Number(text)));
const seconds = (perSecond: number) => (text: string) => `${(Number(text) / perSecond).toFixed(3)} s`;
const line =
  (name: string, show: (text: string) => string = (text) => text) =>
  (text: string) => {
    const found = new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1];
    return found === undefined ? undefined : show(found);
  };
const waited = (text: string) => /^some (avg10=\S+ avg60=\S+ avg300=\S+)/m.exec(text)?.[1];

const places: readonly Place[] = [
  { what: "cpu used", v1: ["cpuacct", "cpuacct.usage"], show: seconds(1e9) },
  { what: "cpu used", v2: ["cpu", "cpu.stat"], show: line("usage_usec", seconds(1e6)) },
  { what: "cpu quota (µs)", v1: ["cpu", "cpu.cfs_quota_us"], show: (text) => (text === "-1" ? "none" : text) },
  { what: "cpu period (µs)", v1: ["cpu", "cpu.cfs_period_us"] },
  { what: "cpu quota and period (µs)", v2: ["cpu", "cpu.max"] },
  { what: "cpu shares", v1: ["cpu", "cpu.shares"] },
  { what: "cpu weight", v2: ["cpu", "cpu.weight"] },
  { what: "times throttled", v1: ["cpu", "cpu.stat"], v2: ["cpu", "cpu.stat"], show: line("nr_throttled") },
  { what: "processors", v1: ["cpuset", "cpuset.cpus"], v2: ["cpuset", "cpuset.cpus.effective"] },
  { what: "memory used", v1: ["memory", "memory.usage_in_bytes"], v2: ["memory", "memory.current"], show: bytes },
  { what: "memory limit", v1: ["memory", "memory.limit_in_bytes"], v2: ["memory", "memory.max"], show: bytes },
  { what: "memory and swap limit", v1: ["memory", "memory.memsw.limit_in_bytes"], show: bytes },
  { what: "swap limit", v2: ["memory", "memory.swap.max"], show: bytes },
  { what: "most memory", v1: ["memory", "memory.max_usage_in_bytes"], v2: ["memory", "memory.peak"], show: bytes },
  { what: "memory limit reached", v1: ["memory", "memory.failcnt"], v2: ["memory", "memory.events"], show: reached },
  {
    what: "killed for memory",
    v1: ["memory", "memory.oom_control"],
    v2: ["memory", "memory.events"],
    show: line("oom_kill"),
  },
  { what: "threads", v1: ["pids", "pids.current"], v2: ["pids", "pids.current"] },
  {
    what: "most threads",
    v1: ["pids", "pids.max"],
    v2: ["pids", "pids.max"],
    show: (text) => (text === "max" ? "none" : text),
  },
  { what: "freezer", v1: ["freezer", "freezer.state"] },
  { what: "frozen", v2: ["", "cgroup.freeze"], show: (text) => (text === "1" ? "yes" : "no") },
  { what: "waited for cpu (%)", v2: ["", "cpu.pressure"], show: waited },
  { what: "waited for memory (%)", v2: ["", "memory.pressure"], show: waited },
  { what: "waited for io (%)", v2: ["", "io.pressure"], show: waited },
];

function reached(text: string): string | undefined {
  return /^\d+$/.test(text) ? text : line("max")(text);
}

/** What this host's hierarchies tell of the cgroup; empty: it is not there. */
export function cgroupValues(hierarchies: readonly Hierarchy[], path: string): CgroupValue[] {
  const values: CgroupValue[] = [];
  for (const { what, v1, v2, show = (text: string) => text } of places) {
    for (const { version, controllers, mountPoint } of hierarchies) {
      const [controller, name] = (version === 1 ? v1 : v2) ?? [];
      if (name === undefined || (controller !== "" && !controllers.includes(controller ?? ""))) continue;
      const file = join(mountPoint, path, name);
      const text = readSmall(file);
      const value = text === undefined ? undefined : show(text);
      if (value !== undefined && value !== "") values.push({ what, value, file });
    }
  }
  return values;
}

function readSmall(file: string): string | undefined {
  try {
    return existsSync(file) ? readFileSync(file, "utf8").trim() : undefined;
  } catch {
    // gone meanwhile, or switched off (pressure)
    return undefined;
  }
}
