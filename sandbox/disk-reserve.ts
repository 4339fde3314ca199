/** A file that takes a little of the disk, to be given up when a full one would keep a record from being changed. */
import { randomBytes } from "node:crypto";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { isDiskFull } from "./errno.js";

/** Some hundreds of changes of records. */
const reserveBytes = 256 * 1024;

export class DiskReserve {
  #isFull: boolean;

  /** @param path the file; its directory need not be there yet */
  constructor(private readonly path: string) {
    this.#isFull = existsSync(path);
  }

  /** There is a reserve after it. @throws ENOSPC */
  fill(): void {
    if (this.#isFull) return;
    try {
      // bytes that no file system can make smaller
      writeFileSync(this.path, randomBytes(reserveBytes), { mode: 0o600 });
      this.#isFull = true;
    } catch (error) {
      rmSync(this.path, { force: true });
      throw error;
    }
  }

  /** Writes; a second time, with what the reserve has held, when the disk is full. */
  spend(write: () => void): void {
    try {
      write();
    } catch (error) {
      if (!isDiskFull(error) || !this.#isFull) throw error;
      rmSync(this.path, { force: true });
      this.#isFull = false;
      write();
    }
  }
}
