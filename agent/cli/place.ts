import { closeSync, constants, openSync, readFileSync, unlinkSync } from "node:fs";

/** A name in an open directory. Bytes: names need not be UTF-8. */
export interface Place {
  directory: number;
  name: Buffer;
}

export function pathOf({ directory, name }: Place): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${directory}/`), name]);
}

export const onlyPath = 0o10000000;

/**
 * False: something is mounted on it, and it stays: from another mount namespace the kernel would take the mount away with
 * the name.
 */
export function removeUnlessMounted(place: Place): boolean {
  const fd = openSync(pathOf(place), onlyPath | constants.O_NOFOLLOW);
  try {
    if (mountOf(fd) !== mountOf(place.directory)) return false;
  } finally {
    closeSync(fd);
  }
  unlinkSync(pathOf(place));
  return true;
}

function mountOf(fd: number): string | undefined {
  return /^mnt_id:.*$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[0];
}
