/**
 * Programs of the host that an agent which was killed has left running: its network plugins, its hooks. They are known by
 * what their environment says, which was there before they ran, and which what they start has, too.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { InternalError } from "./errors.js";

const patienceMs = 2_000;

/**
 * `isLeft` is given a process's environment. Kills these and waits for their end.
 * @param what in the plural: "CNI plugins"
 * @throws InternalError: one does not end
 */
export async function endLeftoverProcesses(
  what: string,
  isLeft: (environment: ReadonlyMap<string, string>) => boolean,
): Promise<void> {
  const until = performance.now() + patienceMs;
  for (;;) {
    const left = hostProcesses().filter((pid) => isLeft(environmentOf(pid)));
    if (left.length === 0) return;
    if (performance.now() > until) {
      throw new InternalError(`${what} of an earlier agent do not end: processes ${left.join(", ")}`);
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
