/** Whom the kernel has killed in a container, and among which processes it chose. */
import { messageOf } from "../sandbox/errors.js";
import { type OomReport, oomReports } from "./cli/oom-reports.js";
import { bootMs, kernelLog } from "./kernel-log.js";

const mostNamed = 5;

/** What the kernel's log says of the latest victim; or why it says nothing. */
export function describeVictim(containerId: string): string {
  try {
    const reports = oomReports(kernelLog(), bootMs());
    const report = reports.findLast(({ cgroup }) => cgroup.split("/").includes(containerId));
    return report === undefined ? "the kernel's log does not tell which" : victimSentence(report);
  } catch (error) {
    return messageOf(error);
  }
}

export function victimSentence({ victim, tasks, limitBytes }: OomReport): string {
  const limit = limitBytes === undefined ? "" : ` at the limit of ${mebibytes(limitBytes)}`;
  const named = tasks.slice(0, mostNamed).map(({ name, pid, rssBytes }) => `${name} (${pid}) ${mebibytes(rssBytes)}`);
  const more = tasks.length > mostNamed ? `, and ${tasks.length - mostNamed} smaller ones` : "";
  return `killed ${victim.name} (${victim.pid})${limit}, among ${named.join(", ")}${more}`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
