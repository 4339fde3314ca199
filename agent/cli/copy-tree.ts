/**
 * Copies files between two trees of which neither is trusted: every directory is an open descriptor, and what is in it is
 * named by one component that is never followed. Whoever swaps a directory for a link meanwhile gets an error, or the file
 * that was there before; nothing outside of the two trees is read or written.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  type Stats,
  symlinkSync,
  writeSync,
} from "node:fs";

const { O_RDONLY, O_WRONLY, O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

export interface CopyOptions {
  /** whose the copies are, ids of the host */
  owner: { uid: number; gid: number };
  /** told of what is neither file, directory nor link */
  skipped(path: string): void;
}

/** A name in an open directory. Bytes: names need not be UTF-8. */
export interface Place {
  directory: number;
  name: Buffer;
}

const chunk = Buffer.allocUnsafe(1 << 20);
/** Set-user-id and its like are left out: in another tree they would mean something else. */
const permissions = 0o777;

/** @param shown what messages call it */
export function copyEntry(from: Place, to: Place, options: CopyOptions, shown: string): void {
  const stats = lstatSync(pathOf(from));
  if (stats.isDirectory()) copyDirectory(from, to, stats, options, shown);
  else if (stats.isFile()) copyFile(from, to, options, shown);
  else if (stats.isSymbolicLink()) {
    symlinkSync(readlinkSync(pathOf(from), "buffer"), pathOf(to));
    lchownSync(pathOf(to), options.owner.uid, options.owner.gid);
  } else options.skipped(shown);
}

function copyDirectory(from: Place, to: Place, stats: Stats, options: CopyOptions, shown: string): void {
  const made = makeDirectory(to);
  const source = openSync(pathOf(from), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    const target = openSync(pathOf(to), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    try {
      for (const name of readdirSync(`/proc/self/fd/${source}`, { encoding: "buffer" })) {
        copyEntry({ directory: source, name }, { directory: target, name }, options, `${shown}/${name.toString()}`);
      }
      // one that was there stays as it was
      if (made) setAttributes(target, stats, options);
    } finally {
      closeSync(target);
    }
  } finally {
    closeSync(source);
  }
}

function makeDirectory(place: Place): boolean {
  try {
    mkdirSync(pathOf(place), 0o700);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function copyFile(from: Place, to: Place, options: CopyOptions, shown: string): void {
  // it may have become a fifo meanwhile
  const source = openSync(pathOf(from), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stats = fstatSync(source);
    if (!stats.isFile()) {
      options.skipped(shown);
      return;
    }
    const target = openSync(pathOf(to), O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
    try {
      if (!fstatSync(target).isFile()) throw new Error(`${to.name.toString()} is there and is no regular file`);
      ftruncateSync(target, 0);
      for (let count = readSync(source, chunk); count > 0; count = readSync(source, chunk)) {
        for (let written = 0; written < count; ) written += writeSync(target, chunk, written, count - written);
      }
      setAttributes(target, stats, options);
    } finally {
      closeSync(target);
    }
  } finally {
    closeSync(source);
  }
}

function setAttributes(fd: number, { mode, atime, mtime }: Stats, { owner }: CopyOptions): void {
  fchownSync(fd, owner.uid, owner.gid);
  fchmodSync(fd, mode & permissions);
  futimesSync(fd, atime, mtime);
}

function pathOf({ directory, name }: Place): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${directory}/`), name]);
}
