import { setTimeout as sleep } from "node:timers/promises";

/** Waits for what will be so; a machine may be slow. @throws Error that shows what was waited for */
export async function until(isSo: () => boolean | Promise<boolean>, patienceMs = 30_000): Promise<void> {
  for (const end = Date.now() + patienceMs; !(await isSo()); await sleep(10)) {
    if (Date.now() > end) throw new Error(`it was not so after ${patienceMs / 1000} s: ${isSo}`);
  }
}
