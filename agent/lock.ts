import { realpathSync } from "node:fs";
import { join } from "node:path";
import { type Addon, isSystemError } from "../native/binding.js";
import { makeDirectories } from "../sandbox/directories.js";
import { FailedPreconditionError } from "../sandbox/errors.js";
import { lockPatiently } from "../sandbox/patient-lock.js";

/**
 * Makes the state directories, for nobody but root, and takes the locks of each: of a file, which agents of all versions
 * look at, and of the directory itself, which nobody deletes by the way. The locks are held by the descriptors that
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
      for (const lock of [
        () => lockPatiently(native, join(directory, "lock")),
        () => lockPatiently(native, realpathSync(directory)).catch(unlessUnsupported),
      ]) {
        const held = await lock();
        if (held === undefined) {
          throw new FailedPreconditionError(
            `another agent works in ${directory}; give this one directories of its own`,
          );
        }
        if (held !== null) locks.push(held);
      }
    } catch (error) {
      for (const held of locks) native.closeDescriptor(held);
      throw error;
    }
  }
  return locks;
}

/** NFS has no locks of directories. */
function unlessUnsupported(error: unknown): null {
  if (isSystemError(error) && error.syscall === "flock") return null;
  throw error;
}
