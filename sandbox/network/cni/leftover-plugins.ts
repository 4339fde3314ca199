/**
 * Plugins that an agent which was killed has left running. One that is still adding an attachment would finish it after
 * the next agent has taken it away.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { InternalError } from "../../errors.js";

const patienceMs = 2_000;

/** Kills them and waits for their end. @throws InternalError: one does not end */
export async function endLeftoverPlugins(containerId: string): Promise<void> {
  const until = performance.now() + patienceMs;
  for (;;) {
    const left = pluginsOf(containerId);
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

/** They are known by the environment that they were given; what they call themselves has it, too. */
function pluginsOf(containerId: string): number[] {
  const wanted = `\0CNI_CONTAINERID=${containerId}\0`;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && environmentOf(pid).includes(wanted));
}

/** Empty: there is none any more, or it has ended. */
function environmentOf(pid: number): string {
  try {
    return `\0${readFileSync(`/proc/${pid}/environ`, "latin1")}\0`;
  } catch {
    return "";
  }
}
