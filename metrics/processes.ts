/** What containers' processes have open and do, read again of those alone that have run since they were looked at. */
import type { FileRead } from "../native/addon-types.js";
import { native } from "../native/binding.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { Container } from "../sandbox/container.js";
import type { ObservedNode } from "./collect.js";

/** Open files and, among them, sockets; threads by what they do. NaN: not known. */
export interface ProcessCounts {
  files: number;
  sockets: number;
  running: number;
  sleeping: number;
  stopped: number;
  uninterruptible: number;
  /** RLIMIT_NOFILE's soft value of the container's init, -1: it has none */
  mostFiles?: number;
}

const valuesOfContainer = 6;

type Run = Pick<CgroupSample, "cpuUsageNs" | "threads">;

const known = new WeakMap<Container, { at: Run; counts: ProcessCounts }>();

/** By container. `samples` were taken before: what was counted after a sample holds for as long as the next ones tell the
 *  same time of the processors. */
export async function processesOf(
  { cgroups }: Pick<ObservedNode, "cgroups">,
  containers: readonly Container[],
  samples: ReadonlyMap<Container, Run>,
): Promise<Map<Container, ProcessCounts>> {
  const result = new Map<Container, ProcessCounts>();
  const wanted: Container[] = [];
  for (const container of containers) {
    const before = known.get(container);
    if (before !== undefined && hasNotRun(before.at, samples.get(container))) result.set(container, before.counts);
    else wanted.push(container);
  }
  if (wanted.length === 0) return result;
  // the hierarchy that lists them
  const place = cgroups.hierarchies.find(({ controllers }) => controllers.includes("pids"));
  const [seen, limits] = await Promise.all([
    place === undefined
      ? new Float64Array(wanted.length * valuesOfContainer).fill(Number.NaN)
      : native.lookAtProcesses(wanted.map(({ record }) => `${place.mountPoint}${record.cgroupPath}`)),
    native.readFiles(wanted.map(({ pid }) => `/proc/${pid}/limits`)),
  ]);
  for (const [index, container] of wanted.entries()) {
    const values = seen.subarray(index * valuesOfContainer, (index + 1) * valuesOfContainer);
    const [files = 0, sockets = 0, running = 0, sleeping = 0, stopped = 0, uninterruptible = 0] = values;
    const counts: ProcessCounts = { files, sockets, running, sleeping, stopped, uninterruptible };
    const mostFiles = container.pid === 0 ? undefined : mostFilesIn(limits[index]);
    if (mostFiles !== undefined) counts.mostFiles = mostFiles;
    result.set(container, counts);
    const at = samples.get(container);
    const all = mostFiles !== undefined && !values.some(Number.isNaN);
    if (at !== undefined && all) known.set(container, { at, counts });
  }
  return result;
}

function hasNotRun(before: Run, now: Run | undefined): boolean {
  return now?.cpuUsageNs !== undefined && now.cpuUsageNs === before.cpuUsageNs && now.threads === before.threads;
}

function mostFilesIn(read: FileRead | undefined): number | undefined {
  const text = read !== undefined && "content" in read ? read.content : "";
  const limit = /^Max open files +(\S+)/m.exec(text)?.[1];
  if (limit === undefined) return undefined;
  return limit === "unlimited" ? -1 : Number(limit);
}
