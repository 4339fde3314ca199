/** What the kernel's own files say of a cgroup, on v1, v2 and hybrid hosts: read by the test, and not by the agent's code. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";

const { hierarchies } = openCgroupManager();

/** The controller's directory of the cgroup, and whether it is v2's. Undefined: the host has no such controller. */
function place(controller: string, path: string): { directory: string; v2: boolean } | undefined {
  const found = hierarchies.find(({ controllers }) => controllers.includes(controller));
  return found && { directory: join(found.mountPoint, path), v2: found.version === 2 };
}

export function unifiedDirectory(path: string): string | undefined {
  const unified = hierarchies.find(({ version }) => version === 2);
  return unified && join(unified.mountPoint, path);
}

/** The file that freezes the cgroup, and what is written to freeze it and to thaw it. */
export function freezer(path: string): { file: string; frozen: string; thawed: string } | undefined {
  const v1 = place("freezer", path);
  if (v1 !== undefined) return { file: join(v1.directory, "freezer.state"), frozen: "FROZEN", thawed: "THAWED" };
  const unified = unifiedDirectory(path);
  return unified === undefined ? undefined : { file: join(unified, "cgroup.freeze"), frozen: "1", thawed: "0" };
}

export interface Told {
  cpuNs?: number;
  memoryBytes?: number;
  inactiveFileBytes?: number;
  rssBytes?: number;
  pageFaults?: number;
  memoryLimitBytes?: number;
  threads?: number;
  cpuWaitedNs?: number;
}

/** All of them now; what the host cannot tell is left out. */
export function toldByKernel(path: string): Told {
  const told: { [K in keyof Told]?: number | undefined } = {};
  const memory = place("memory", path);
  if (memory !== undefined) {
    const file = (v1: string, v2: string) => join(memory.directory, memory.v2 ? v2 : v1);
    const stat = join(memory.directory, "memory.stat");
    told.memoryBytes = single(file("memory.usage_in_bytes", "memory.current"));
    told.memoryLimitBytes = single(file("memory.limit_in_bytes", "memory.max"));
    told.inactiveFileBytes = line(stat, memory.v2 ? "inactive_file" : "total_inactive_file");
    told.rssBytes = line(stat, memory.v2 ? "anon" : "total_rss");
    told.pageFaults = line(stat, memory.v2 ? "pgfault" : "total_pgfault");
  }
  const cpu = place("cpuacct", path);
  if (cpu !== undefined) told.cpuNs = single(join(cpu.directory, "cpuacct.usage"));
  else if (place("cpu", path)?.v2)
    told.cpuNs = thousandfold(line(join(unifiedDirectory(path) ?? "", "cpu.stat"), "usage_usec"));
  const pids = place("pids", path);
  if (pids !== undefined) told.threads = single(join(pids.directory, "pids.current"));
  const pressure = join(unifiedDirectory(path) ?? "/nowhere", "cpu.pressure");
  if (existsSync(pressure)) {
    told.cpuWaitedNs = thousandfold(Number(/^some .* total=(\d+)$/m.exec(readFileSync(pressure, "utf8"))?.[1]));
  }
  return Object.fromEntries(Object.entries(told).filter(([, value]) => value !== undefined));
}

function single(file: string): number | undefined {
  const text = existsSync(file) ? readFileSync(file, "utf8").trim() : "max";
  return text === "max" ? undefined : Number(text);
}

function line(file: string, name: string): number | undefined {
  const found = new RegExp(`^${name} (\\d+)$`, "m").exec(existsSync(file) ? readFileSync(file, "utf8") : "");
  return found?.[1] === undefined ? undefined : Number(found[1]);
}

function thousandfold(value: number | undefined): number | undefined {
  return value === undefined ? undefined : value * 1000;
}
