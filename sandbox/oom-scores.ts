/** Another oom_score_adj for the processes of a container that runs. */
import { closeSync, openSync, readSync, writeSync } from "node:fs";

/** How often the list is read again, for those that were started meanwhile and have inherited the old value. */
const maxPasses = 10;

/**
 * A process whose value is not `from` has set its own, and keeps it. One that the kernel does not let the agent change, or
 * that has ended, is passed over.
 * @param processes their numbers at this moment
 */
export async function changeOomScores(processes: () => Promise<number[]>, from: number, to: number): Promise<void> {
  if (from === to) return;
  for (let pass = 0; pass < maxPasses; pass++) {
    const changed = (await processes()).filter((pid) => changeOne(pid, from, to));
    if (changed.length === 0) return;
  }
}

function changeOne(pid: number, from: number, to: number): boolean {
  let file: number;
  try {
    file = openSync(`/proc/${pid}/oom_score_adj`, "r+");
  } catch {
    return false;
  }
  try {
    // it is the same process's for as long as it is open
    const text = Buffer.alloc(16);
    if (Number(text.toString("utf8", 0, readSync(file, text, 0, text.length, 0))) !== from) return false;
    writeSync(file, String(to));
    return true;
  } catch {
    return false;
  } finally {
    closeSync(file);
  }
}
