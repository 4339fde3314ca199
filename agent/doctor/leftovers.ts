import { statSync } from "node:fs";
import { join } from "node:path";
import { monitorProcesses } from "../../sandbox/monitor-processes.js";
import type { Config } from "../config.js";
import { crashReportFiles } from "../crash-reports.js";
import type { Finding } from "../doctor.js";

const recentMs = 7 * 24 * 3600 * 1000;

/** @param leaks of the agent (FindLeaks), "KIND PLACE" each; null: none answers */
export function leftoverFindings({ run, root }: Config, leaks: readonly string[] | null): Finding[] {
  const findings: Finding[] = [];
  const pods = monitorProcesses().filter(({ directory }) => directory.startsWith(`${join(run, "pods")}/`));
  if (leaks === null && pods.length > 0) {
    findings.push({
      id: "PodsWithoutAgent",
      severity: "error",
      what: `${pods.length} ${pods.length === 1 ? "pod runs" : "pods run"}, and no agent answers`,
      consequence: "the kubelet cannot see or stop them; logs are written and exit codes kept meanwhile",
      remedy: "Start the agent (systemctl start berth): it finds them again.",
      breaks: "RuntimeReady",
    });
  }
  if (leaks !== null && leaks.length > 0) {
    const [first = ""] = leaks;
    findings.push({
      id: "Leftovers",
      severity: "warning",
      what: `${leaks.length} ${leaks.length === 1 ? "thing" : "things"} of pods that are not known: ${first}${leaks.length > 1 ? " and so on" : ""}`,
      consequence: "they take memory, addresses or room on the disk, and may answer for addresses of other pods",
      remedy: "See berth leaks, and take them away by berth leaks --repair.",
    });
  }
  const crashes = crashReportFiles(root).filter((path) => Date.now() - statSync(path).mtimeMs < recentMs);
  if (crashes.length > 0) {
    findings.push({
      id: "AgentCrashed",
      severity: "warning",
      what: `the agent has crashed ${crashes.length === 1 ? "once" : `${crashes.length} times`} in a week; the latest report is ${crashes[0]}`,
      consequence: "calls that ran then have failed; pods have not noticed",
      remedy: "Look into the report, and send it (berth export-support takes it along).",
    });
  }
  return findings;
}
