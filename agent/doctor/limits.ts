import type { Finding } from "../doctor.js";
import type { ReadText } from "./machine.js";

/** A pod has four descriptors of the agent's, and statistics keep twenty more of each container open. */
const leastFiles = 16_384;
const leastProcesses = 8_192;

/** Limits that programs started from here have: the soft one is raised to the hard one by Node itself. */
export async function limitFindings(read: ReadText): Promise<Finding[]> {
  const limits = (await read("proc/self/limits")) ?? "";
  const hard = (name: string) => {
    const value = new RegExp(`^${name}\\s+\\S+\\s+(\\S+)`, "m").exec(limits)?.[1];
    return value === undefined || value === "unlimited" ? Number.POSITIVE_INFINITY : Number(value);
  };
  const findings: Finding[] = [];
  const files = hard("Max open files");
  if (files < leastFiles) {
    findings.push({
      id: "FewOpenFiles",
      severity: "warning",
      what: `the hard limit of open files is ${files} (seen from here; the service has one of its own)`,
      consequence: `an agent with this limit fails with EMFILE at a few hundred pods`,
      remedy: "Start it by its systemd unit, which has LimitNOFILE, or raise the limit (ulimit -Hn).",
    });
  }
  const processes = hard("Max processes");
  if (processes < leastProcesses) {
    findings.push({
      id: "FewProcesses",
      severity: "warning",
      what: `the hard limit of processes is ${processes} (seen from here; the service has one of its own)`,
      consequence: "containers of the same user share it, and fork fails in them with EAGAIN",
      remedy: "Start the agent by its systemd unit, or raise the limit (ulimit -Hu).",
    });
  }
  return findings;
}
