import { posix } from "node:path";
import { InvalidArgumentError } from "../errors.js";

const maxPathBytes = 4095;

/** An absolute path without `.`, `..`, doubled and trailing slashes. InvalidArgumentError names the field. */
export function absolutePath(path: string | null | undefined, field: string): string {
  if (!path) throw new InvalidArgumentError(`${field}: a path is needed`);
  if (path.includes("\0")) throw new InvalidArgumentError(`${field}: ${JSON.stringify(path)} holds a NUL byte`);
  if (!path.startsWith("/")) throw new InvalidArgumentError(`${field}: ${JSON.stringify(path)} is not absolute`);
  if (Buffer.byteLength(path) > maxPathBytes) {
    throw new InvalidArgumentError(`${field}: the path is longer than ${maxPathBytes} bytes`);
  }
  const normal = posix.normalize(path);
  return normal.length > 1 && normal.endsWith("/") ? normal.slice(0, -1) : normal;
}

/** How many names a normalised absolute path has: the order in which mounts nest. */
export function pathDepth(path: string): number {
  return path === "/" ? 0 : path.split("/").length - 1;
}

/** Is a normalised path the directory itself, or below it? */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}
