import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Addon, isSystemError } from "../native/binding.js";
import { FailedPreconditionError } from "../sandbox/errors.js";

/**
 * Makes the state directories, for nobody but root, and takes the lock of each. The locks are held by open descriptors:
 * the kernel drops them with the process, however it ends.
 * @throws FailedPreconditionError when another agent works there
 */
export function lockDirectories(native: Pick<Addon, "lockFile">, directories: readonly string[]): void {
  for (const directory of directories) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    try {
      native.lockFile(join(directory, "lock"));
    } catch (error) {
      if (!isSystemError(error) || (error.errnoName !== "EWOULDBLOCK" && error.errnoName !== "EAGAIN")) throw error;
      throw new FailedPreconditionError(`another agent works in ${directory}; give this one directories of its own`, {
        cause: error,
      });
    }
  }
}
