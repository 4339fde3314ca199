import { setTimeout as pause } from "node:timers/promises";
import { type Addon, isSystemError } from "../native/binding.js";

/** A monitor that is being cloned has the dead agent's descriptors, and so its locks, until it executes its program. */
const patienceMs = 500;
const pauseMs = 10;

/**
 * The lock of the file, which is made where it is missing: the kernel drops it with the descriptor that is answered, and so with
 * the process, however that ends. Undefined: another process has it.
 */
export async function lockPatiently(native: Pick<Addon, "lockFile">, path: string): Promise<number | undefined> {
  const until = performance.now() + patienceMs;
  for (;;) {
    try {
      return native.lockFile(path);
    } catch (error) {
      if (!isSystemError(error) || (error.errnoName !== "EWOULDBLOCK" && error.errnoName !== "EAGAIN")) throw error;
    }
    if (performance.now() > until) return undefined;
    await pause(pauseMs);
  }
}
