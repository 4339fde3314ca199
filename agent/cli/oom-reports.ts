/** What the kernel writes to its log when a cgroup's memory limit, or the machine's memory, makes it kill. */

export interface OomTask {
  pid: number;
  uid: number;
  name: string;
  rssBytes: number;
  anonBytes: number;
  swapBytes: number;
  oomScoreAdj: number;
}

export interface OomReport {
  /** milliseconds since the epoch; the kernel counts from the boot */
  timeMs: number;
  /** the process that asked for more */
  askedBy: string;
  /** the cgroup whose limit was met; empty: the machine itself had no more */
  limited: string;
  /** the cgroup of the victim */
  cgroup: string;
  victim: { pid: number; uid: number; name: string };
  usageBytes?: number;
  limitBytes?: number;
  /** how often the limit had been met */
  failures?: number;
  /** those among which it chose, the largest first */
  tasks: OomTask[];
}

/** A record of /dev/kmsg: "6,275702,15510257989,-;text", and lines with its fields. */
const kernelRecord = /^(\d+),\d+,(\d+),[^;]*;([^\n]*)/;
/** Above it are the facilities of programs, which may write what they like. */
const firstOfPrograms = 8;

/** @param records of /dev/kmsg, in their order; @param bootMs when the machine was booted, since the epoch */
export function oomReports(records: Iterable<string>, bootMs: number): OomReport[] {
  const reports: OomReport[] = [];
  let begun: Draft | undefined;
  for (const record of records) {
    const [, priority, microseconds, text = ""] = kernelRecord.exec(record) ?? [];
    if (priority === undefined || Number(priority) >= firstOfPrograms) continue;
    const [, askedBy] = /^(.*) invoked oom-killer: /.exec(text) ?? [];
    if (askedBy !== undefined) {
      begun = { timeMs: bootMs + Number(microseconds) / 1000, askedBy, tasks: [] };
      continue;
    }
    if (begun === undefined) continue;
    const report = read(begun, text);
    if (report === undefined) continue;
    reports.push(report);
    begun = undefined;
  }
  return reports;
}

interface PageCounts extends Omit<OomTask, "rssBytes" | "anonBytes" | "swapBytes"> {
  rss: number;
  anon: number;
  swap: number;
}

type Draft = Pick<OomReport, "timeMs" | "askedBy" | "usageBytes" | "limitBytes" | "failures"> &
  Partial<Pick<OomReport, "limited" | "cgroup" | "victim">> & { tasks: PageCounts[] };

/** The whole report, with its last line. */
function read(draft: Draft, text: string): OomReport | undefined {
  const [, usage, limit, failures] = /^memory: usage (\d+)kB, limit (\d+)kB, failcnt (\d+)$/.exec(text) ?? [];
  if (usage !== undefined) {
    Object.assign(draft, { usageBytes: Number(usage) * 1024, failures: Number(failures) });
    if (Number(limit) < 2 ** 52) draft.limitBytes = Number(limit) * 1024;
    return undefined;
  }
  const task = taskOf(text);
  if (task !== undefined) {
    draft.tasks.push(task);
    return undefined;
  }
  const [, cgroups, name = "", pid, uid] = /^oom-kill:(.*),task=(.*),pid=(\d+),uid=(\d+)$/.exec(text) ?? [];
  if (cgroups !== undefined) {
    draft.limited = /(?:^|,)oom_memcg=([^,]*)/.exec(cgroups)?.[1] ?? "";
    draft.cgroup = /(?:^|,)task_memcg=([^,]*)/.exec(cgroups)?.[1] ?? "";
    draft.victim = { pid: Number(pid), uid: Number(uid), name };
    return undefined;
  }
  const [, anonKib] = /Killed process \d+ \(.*\) total-vm:\d+kB, anon-rss:(\d+)kB/.exec(text) ?? [];
  return anonKib === undefined ? undefined : finished(draft, Number(anonKib));
}

/** "[   1234]     0  1234    28553     6719 [more kinds]   106496        0             0 name" */
function taskOf(text: string): PageCounts | undefined {
  const [, pid, numbers = "", name = ""] = /^\[ *(\d+)\] +((?:-?\d+ +)+)(.*)$/.exec(text) ?? [];
  if (pid === undefined) return undefined;
  // uid, tgid, total_vm, rss, then of newer kernels its three kinds, page tables, swap, adjustment
  const [uid = 0, , , rss = 0, ...rest] = numbers.trim().split(/ +/).map(Number);
  const oomScoreAdj = rest.at(-1) ?? 0;
  const swap = rest.at(-2) ?? 0;
  return { pid: Number(pid), uid, name, rss, anon: rest.length > 3 ? (rest[0] ?? 0) : rss, swap, oomScoreAdj };
}

/** The table counts in pages, the last line in kibibytes: the victim is in both. */
function finished(
  { tasks, victim, limited = "", cgroup = "", ...draft }: Draft,
  anonKib: number,
): OomReport | undefined {
  if (victim === undefined) return undefined;
  const counted = tasks.find(({ pid }) => pid === victim.pid)?.anon ?? 0;
  const quotient = counted > 0 ? (anonKib * 1024) / counted : 0;
  // it may have grown between the two: pages have a power of two
  const page = quotient > 0 ? Math.max(4096, 2 ** Math.round(Math.log2(quotient))) : 4096;
  return {
    ...draft,
    limited,
    cgroup,
    victim,
    tasks: tasks
      .map(({ rss, anon, swap, ...rest }) => ({
        ...rest,
        rssBytes: rss * page,
        anonBytes: anon * page,
        swapBytes: swap * page,
      }))
      .sort((a, b) => b.rssBytes - a.rssBytes),
  };
}
