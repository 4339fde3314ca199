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
  type Stats,
  symlinkSync,
} from "node:fs";
import { copyContent } from "./copy-content.js";
import { HardLinks } from "./hard-links.js";
import { type Place, pathOf, removeUnlessMounted } from "./place.js";

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

export interface CopyOptions {
  /** whose the copies are, ids of the host */
  owner: { uid: number; gid: number };
  /** told of what is neither file, directory nor link */
  skipped(path: string): void;
  /** told of what was in a directory when it was read, and then no more */
  vanished(path: string): void;
  /** told once of more files with several names than are kept together; the others are copied apart */
  tooManyLinks(): void;
}

/** Set-user-id and its like are left out: in another tree they would mean something else. */
const permissions = 0o777;

/** @param shown what messages call it */
export function copyEntry(from: Place, to: Place, options: CopyOptions, shown: string): void {
  const links = new HardLinks(to.directory, options.tooManyLinks);
  new TreeCopy(options, links).copy(from, to, { shown, path: to.name });
}

/** What an entry is called in messages, and its path below the target's directory. */
interface Names {
  shown: string;
  path: Buffer;
}

class TreeCopy {
  constructor(
    private readonly options: CopyOptions,
    private readonly links: HardLinks,
  ) {}

  copy(from: Place, to: Place, names: Names): void {
    const stats = lstatSync(pathOf(from));
    if (stats.isDirectory()) this.#copyDirectory(from, to, stats, names);
    else if (stats.isFile()) this.#copyFile(from, to, names);
    else if (stats.isSymbolicLink()) {
      symlinkSync(readlinkSync(pathOf(from), "buffer"), pathOf(to));
      lchownSync(pathOf(to), this.options.owner.uid, this.options.owner.gid);
    } else this.options.skipped(names.shown);
  }

  #copyDirectory(from: Place, to: Place, stats: Stats, { shown, path }: Names): void {
    const source = openSync(pathOf(from), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    try {
      const made = makeDirectory(to);
      const target = openSync(pathOf(to), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      try {
        for (const name of readdirSync(`/proc/self/fd/${source}`, { encoding: "buffer" })) {
          const below = { shown: `${shown}/${name.toString()}`, path: Buffer.concat([path, Buffer.from("/"), name]) };
          const entry = { directory: source, name };
          try {
            this.copy(entry, { directory: target, name }, below);
          } catch (error) {
            if (!isGone(entry, error)) throw error;
            this.options.vanished(below.shown);
          }
        }
        // one that was there stays as it was
        if (made) this.#setAttributes(target, stats);
      } finally {
        closeSync(target);
      }
    } finally {
      closeSync(source);
    }
  }

  #copyFile(from: Place, to: Place, { shown, path }: Names): void {
    // it may have become a fifo meanwhile
    const source = openSync(pathOf(from), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const stats = fstatSync(source);
      if (!stats.isFile()) {
        this.options.skipped(shown);
        return;
      }
      const inode = fstatSync(source, { bigint: true });
      if (this.links.link(inode, to)) return;
      const target = openTarget(to);
      try {
        ftruncateSync(target, 0);
        copyContent(source, target);
        this.#setAttributes(target, stats);
        this.links.remember(inode, fstatSync(target, { bigint: true }), path);
      } finally {
        closeSync(target);
      }
    } finally {
      closeSync(source);
    }
  }

  #setAttributes(fd: number, { mode, atime, mtime }: Stats): void {
    fchownSync(fd, this.options.owner.uid, this.options.owner.gid);
    fchmodSync(fd, mode & permissions);
    futimesSync(fd, atime, mtime);
  }
}

/** It is the place itself that was not found, and nothing of the other tree. */
function isGone(place: Place, error: unknown): boolean {
  const { code, path } = error as NodeJS.ErrnoException;
  return code === "ENOENT" && path !== undefined && String(path) === pathOf(place).toString();
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

function openTarget(place: Place): number {
  const flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
  const target = openSync(pathOf(place), flags, 0o600);
  const status = fstatSync(target);
  if (!status.isFile()) {
    closeSync(target);
    throw new Error(`${place.name.toString()} is there and is no regular file`);
  }
  // its other names are not meant
  if (status.nlink === 1 || !removeUnlessMounted(place)) return target;
  closeSync(target);
  return openSync(pathOf(place), flags | O_EXCL, 0o600);
}
