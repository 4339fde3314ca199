import { join } from "node:path";
import type { Addon } from "../native/binding.js";
import { makeDirectories } from "../sandbox/directories.js";
import { FailedPreconditionError } from "../sandbox/errors.js";
import { lockPatiently } from "../sandbox/patient-lock.js";

/** The file of the lock in each directory. */
export const lockName = "lock";

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
    makeDirectories(directory, 0o700);
    try {
      const lock = await lockPatiently(native, join(directory, lockName));
      if (lock === undefined) {
        throw new FailedPreconditionError(`another agent works in ${directory}; give this one directories of its own`);
      }
      locks.push(lock);
    } catch (error) {
      for (const held of locks) native.closeDescriptor(held);
      throw error;
    }
  }
  return locks;
}
