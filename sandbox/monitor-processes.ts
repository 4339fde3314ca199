/** The monitors of this machine's pods, whichever agent they are of, as /proc has them. */
import { readdirSync, readFileSync } from "node:fs";

export interface MonitorProcess {
  pid: number;
  podId: string;
  /** the pod's run directory */
  directory: string;
}

export function monitorProcesses(): MonitorProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => monitorProcess(Number(name)) ?? []);
}

/** Undefined: it is no monitor, or has gone. */
export function monitorProcess(pid: number): MonitorProcess | undefined {
  const words = commandLine(pid).split("\0");
  const after = (word: string) => words[words.indexOf(word) + 1] ?? "";
  if (!words[0]?.endsWith("berth-monitor") || !words.includes("--sandbox") || !words.includes("--directory")) return;
  return { pid, podId: after("--sandbox"), directory: after("--directory") };
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}
