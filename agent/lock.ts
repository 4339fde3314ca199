import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Addon, isSystemError } from "../native/binding.js";
import { FailedPreconditionError } from "../sandbox/errors.js";

/** A monitor that is being cloned has the dead agent's descriptors, and so its locks, until it executes its program. */
const patienceMs = 500;
const pauseMs = 10;

/**
 * Makes the state directories, for nobody but root, and takes the lock of each. The locks are held by the descriptors that
 * it answers: the kernel drops them with the process, however it ends.
 * @throws FailedPreconditionError when another agent works there
 */
export async function lockDirectories(
  native: Pick<Addon, "lockFile" | "closeDescriptor">,
  directories: readonly string[],
): Promise<number[]> {
  const locks: number[] = [];
  for (const directory of directories) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const until = performance.now() + patienceMs;
    try {
      let lock = tryToLock(native, directory, false);
      while (lock === null) {
        await pause(pauseMs);
        lock = tryToLock(native, directory, performance.now() > until);
      }
      locks.push(lock);
    } catch (error) {
      for (const held of locks) native.closeDescriptor(held);
      throw error;
    }
  }
  return locks;
}

function tryToLock(native: Pick<Addon, "lockFile">, directory: string, isLast: boolean): number | null {
  try {
    return native.lockFile(join(directory, "lock"));
  } catch (error) {
    if (!isSystemError(error) || (error.errnoName !== "EWOULDBLOCK" && error.errnoName !== "EAGAIN")) throw error;
    if (!isLast) return null;
    throw new FailedPreconditionError(`another agent works in ${directory}; give this one directories of its own`, {
      cause: error,
    });
  }
}
