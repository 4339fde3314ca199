/**
 * Plugins that an agent which was killed has left running. One that is still adding an attachment would finish it after
 * the next agent has taken it away, one that takes it away would do so beside the next agent's, and one that collects
 * garbage does not know the pods of the next agent.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { InternalError } from "../../errors.js";

const patienceMs = 2_000;

/**
 * `isLeft` is given what the plugin was given, and what it has started has it, too. Kills them and waits for their end.
 * @throws InternalError: one does not end
 */
export async function endLeftoverPlugins(isLeft: (environment: ReadonlyMap<string, string>) => boolean): Promise<void> {
  const until = performance.now() + patienceMs;
  for (;;) {
    const left = hostProcesses().filter((pid) => isLeft(environmentOf(pid)));
    if (left.length === 0) return;
    if (performance.now() > until) {
      throw new InternalError(`CNI plugins of an earlier agent do not end: processes ${left.join(", ")}`);
    }
    for (const pid of left) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // it has ended meanwhile
      }
    }
    await sleep(5);
  }
}

/** Not containers' own, whose memory may be locked for as long as a volume hangs: reading it would wait, too. */
function hostProcesses(): number[] {
  const own = pidNamespaceOf("self");
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && pidNamespaceOf(name) === own)
    .map(Number)
    .filter((pid) => pid !== process.pid);
}

function pidNamespaceOf(process: string): string {
  try {
    return readlinkSync(`/proc/${process}/ns/pid`);
  } catch {
    return "";
  }
}

/** Empty: there is none any more, or it has ended. */
function environmentOf(pid: number): ReadonlyMap<string, string> {
  try {
    const entries = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
    return new Map(entries.map((entry) => [entry.split("=", 1)[0] ?? "", entry.slice(entry.indexOf("=") + 1)]));
  } catch {
    return new Map();
  }
}
