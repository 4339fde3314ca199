/** What containers' processes have open and do, read again of those alone that have run since they were looked at. */
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
}

const valuesOfContainer = 6;

type Run = Pick<CgroupSample, "cpuUsageNs" | "threads">;

const known = new WeakMap<Container, { at: Run; counts: ProcessCounts }>();

/** By container; empty: no hierarchy lists their processes. `samples` were taken before: what was counted after a sample
 *  holds for as long as the next ones tell the same time of the processors. */
export async function processesOf(
  { cgroups }: Pick<ObservedNode, "cgroups">,
  containers: readonly Container[],
  samples: ReadonlyMap<Container, Run>,
): Promise<Map<Container, ProcessCounts>> {
  const result = new Map<Container, ProcessCounts>();
  const place = cgroups.hierarchies.find(({ controllers }) => controllers.includes("pids"));
  if (place === undefined) return result;
  const wanted: Container[] = [];
  for (const container of containers) {
    const before = known.get(container);
    if (before !== undefined && hasNotRun(before.at, samples.get(container))) result.set(container, before.counts);
    else wanted.push(container);
  }
  const seen = await native.lookAtProcesses(wanted.map(({ record }) => `${place.mountPoint}${record.cgroupPath}`));
  for (const [index, container] of wanted.entries()) {
    const values = seen.subarray(index * valuesOfContainer, (index + 1) * valuesOfContainer);
    const [files = 0, sockets = 0, running = 0, sleeping = 0, stopped = 0, uninterruptible = 0] = values;
    const counts = { files, sockets, running, sleeping, stopped, uninterruptible };
    result.set(container, counts);
    const at = samples.get(container);
    if (at !== undefined && !values.some(Number.isNaN)) known.set(container, { at, counts });
  }
  return result;
}

function hasNotRun(before: Run, now: Run | undefined): boolean {
  return now?.cpuUsageNs !== undefined && now.cpuUsageNs === before.cpuUsageNs && now.threads === before.threads;
}

const knownLimits = new WeakMap<Container, { pid: number; limit: number }>();

/** RLIMIT_NOFILE's soft value of each container's init, read once in its life. */
export async function mostOpenFiles(containers: readonly Container[]): Promise<Map<Container, number>> {
  const unknown = containers.filter((one) => one.pid !== 0 && knownLimits.get(one)?.pid !== one.pid);
  const pids = unknown.map(({ pid }) => pid);
  const reads = unknown.length === 0 ? [] : await native.readFiles(pids.map((pid) => `/proc/${pid}/limits`));
  for (const [index, container] of unknown.entries()) {
    const read = reads[index];
    const found = /^Max open files +(\S+)/m.exec(read !== undefined && "content" in read ? read.content : "");
    if (found?.[1] === undefined) continue;
    knownLimits.set(container, { pid: pids[index] ?? 0, limit: found[1] === "unlimited" ? -1 : Number(found[1]) });
  }
  const result = new Map<Container, number>();
  for (const container of containers) {
    const known = knownLimits.get(container);
    if (known !== undefined) result.set(container, known.limit);
  }
  return result;
}
