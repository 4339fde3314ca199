/** The kernel's log, for what it tells nowhere else. */
import { closeSync, constants, openSync, readFileSync, readSync } from "node:fs";

/** All records that the kernel still has. @throws Error: it lets only others read them */
export function* kernelLog(): Generator<string> {
  let log: number;
  try {
    log = openSync("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new Error(`the kernel's log cannot be read: ${error instanceof Error ? error.message : error}`);
  }
  try {
    // a read is a record
    const buffer = Buffer.alloc(8192);
    for (;;) {
      try {
        yield buffer.toString("utf8", 0, readSync(log, buffer));
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "EAGAIN") return;
        // it was overwritten before it was read: the next read is of the oldest that is there
        if (code !== "EPIPE") throw error;
      }
    }
  } finally {
    closeSync(log);
  }
}

/** When the machine was booted, in milliseconds since the epoch. */
export function bootMs(): number {
  return Date.now() - Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000;
}
