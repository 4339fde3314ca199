import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Addon, isSystemError } from "../native/binding.js";
import { FailedPreconditionError } from "../sandbox/errors.js";

/** A monitor that is being cloned has the dead agent's descriptors, and so its locks, until it executes its program. */
const patienceMs = 500;
const pauseMs = 10;

/**
 * Makes the state directories, for nobody but root, and takes the lock of each. The locks are held by open descriptors:
 * the kernel drops them with the process, however it ends.
 * @throws FailedPreconditionError when another agent works there
 */
export async function lockDirectories(native: Pick<Addon, "lockFile">, directories: readonly string[]): Promise<void> {
  for (const directory of directories) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const until = Date.now() + patienceMs;
    while (!tryToLock(native, directory, Date.now() > until)) await pause(pauseMs);
  }
}

function tryToLock(native: Pick<Addon, "lockFile">, directory: string, isLast: boolean): boolean {
  try {
    native.lockFile(join(directory, "lock"));
    return true;
  } catch (error) {
    if (!isSystemError(error) || (error.errnoName !== "EWOULDBLOCK" && error.errnoName !== "EAGAIN")) throw error;
    if (!isLast) return false;
    throw new FailedPreconditionError(`another agent works in ${directory}; give this one directories of its own`, {
      cause: error,
    });
  }
}
