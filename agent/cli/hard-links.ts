/**
 * Files of a tree that have several names, and where their copies are, so that the copies share one file, too. What stands
 * in the target meanwhile is not trusted: a name is only used when the file that was copied is still what it names.
 */
import { type BigIntStats, closeSync, constants, linkSync, lstatSync, openSync, unlinkSync } from "node:fs";
import { onlyPath, type Place, pathOf, removeUnlessMounted } from "./place.js";

interface Copy {
  /** below the target's directory */
  path: Buffer;
  dev: bigint;
  ino: bigint;
  /** names of the source that are still to come, if they all are in the tree */
  left: number;
}

/** Of all paths together. What is more is copied as files of their own. */
const mostPathBytes = 16 * 1024 * 1024;
const entryBytes = 250;
const { O_DIRECTORY, O_NOFOLLOW } = constants;

export class HardLinks {
  readonly #copies = new Map<string, Copy>();
  #bytes = 0;
  #isFull = false;

  /** `directory`: all copies are below it */
  constructor(
    private readonly directory: number,
    private readonly tooMany: () => void,
  ) {}

  /** Gives the copy of the file one more name. False: there is none, or its place does not take it. */
  link(source: BigIntStats, to: Place): boolean {
    const copy = source.nlink > 1n ? this.#copies.get(keyOf(source)) : undefined;
    if (copy === undefined) return false;
    if (--copy.left === 0) this.#forget(keyOf(source), copy);
    try {
      return linkTo(this.directory, copy, to);
    } catch {
      // another mount, a file system without links, a name that has gone: a copy does as well
      return false;
    }
  }

  /** The file is copied: `target` is the copy, `path` its name. */
  remember(source: BigIntStats, target: BigIntStats, path: Buffer): void {
    const key = keyOf(source);
    if (source.nlink === 1n || this.#copies.has(key)) return;
    if (this.#bytes + path.length + entryBytes > mostPathBytes) {
      if (!this.#isFull) this.tooMany();
      this.#isFull = true;
      return;
    }
    this.#bytes += path.length + entryBytes;
    this.#copies.set(key, { path, dev: target.dev, ino: target.ino, left: Number(source.nlink) - 1 });
  }

  #forget(key: string, { path }: Copy): void {
    this.#bytes -= path.length + entryBytes;
    this.#copies.delete(key);
  }
}

function keyOf({ dev, ino }: BigIntStats): string {
  return `${dev} ${ino}`;
}

function linkTo(directory: number, copy: Copy, to: Place): boolean {
  const names = splitPath(copy.path);
  const name = names.pop() ?? Buffer.alloc(0);
  const parent = openBelow(directory, names);
  try {
    const [from, path] = [pathOf({ directory: parent, name }), pathOf(to)];
    if (!is(copy, lstatSync(from, { bigint: true }))) return false;
    const there = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (there !== undefined) {
      if (is(copy, there)) return true;
      if (!there.isFile() || !removeUnlessMounted(to)) return false;
    }
    linkSync(from, path);
    if (is(copy, lstatSync(path, { bigint: true }))) return true;
    unlinkSync(path);
    return false;
  } finally {
    closeSync(parent);
  }
}

function is(copy: Copy, { dev, ino }: BigIntStats): boolean {
  return copy.dev === dev && copy.ino === ino;
}

/** One name after the other, none of which may be a link. */
function openBelow(directory: number, names: readonly Buffer[]): number {
  let parent = openSync(`/proc/self/fd/${directory}`, onlyPath | O_DIRECTORY);
  for (const name of names) {
    try {
      const next = openSync(pathOf({ directory: parent, name }), onlyPath | O_DIRECTORY | O_NOFOLLOW);
      closeSync(parent);
      parent = next;
    } catch (error) {
      closeSync(parent);
      throw error;
    }
  }
  return parent;
}

function splitPath(path: Buffer): Buffer[] {
  const names: Buffer[] = [];
  for (let start = 0; start <= path.length; ) {
    const slash = path.indexOf(0x2f, start);
    const end = slash < 0 ? path.length : slash;
    names.push(path.subarray(start, end));
    start = end + 1;
  }
  return names;
}
