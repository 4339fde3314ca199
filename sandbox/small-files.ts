/** Text files in directories that are other people's, where anything may lie. */
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from "node:fs";
import { open } from "node:fs/promises";
import { InvalidArgumentError } from "./errors.js";

const usualBytes = 8 * 1024 * 1024;
/** The open of a FIFO that nobody writes to would never come back, and keep the event loop, or one of its few threads. */
const withoutWaiting = constants.O_RDONLY | constants.O_NONBLOCK;

/** @throws InvalidArgumentError: it is no regular file, or too large; the system's error: it cannot be opened */
export async function readSmallFile(path: string, mostBytes = usualBytes): Promise<string> {
  const file = await open(path, withoutWaiting);
  try {
    check(path, await file.stat(), mostBytes);
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

/** The same at once. */
export function readSmallFileSync(path: string): string {
  const fd = openSync(path, withoutWaiting);
  try {
    check(path, fstatSync(fd), usualBytes);
    return readFileSync(fd, "utf8");
  } finally {
    closeSync(fd);
  }
}

function check(path: string, stats: Stats, mostBytes: number): void {
  if (!stats.isFile()) throw new InvalidArgumentError(`${path} is no regular file`);
  if (stats.size > mostBytes) throw new InvalidArgumentError(`${path} is larger than ${mostBytes} bytes`);
}
