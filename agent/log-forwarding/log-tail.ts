/**
 * A container's log, read from where one has stopped before, over its rotation. Reading a file holds nobody up: the monitor
 * writes on, however slowly this goes.
 */
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** Which file, and how much of it is done. */
export interface LogPosition {
  inode: number;
  offset: number;
}

/** A line, or so much of a long one as is passed on at once. */
export interface LogLine {
  /** as it stands in the log: RFC 3339 with nanoseconds */
  time: string;
  stream: "stdout" | "stderr";
  text: Buffer;
  /** more of the same line comes */
  partial: boolean;
}

const chunkBytes = 256 * 1024;
/** Parts of a line (the log has them at 16 KiB) are put together up to this length. */
export const longestLine = 64 * 1024;
const newline = 10;
const space = 32;
const partialTag = 0x50;

export class LogTail {
  #file: FileHandle | null = null;
  #position: LogPosition | null;
  /** what has been read; #position is before it while a line is not complete */
  #offset = 0;
  readonly #lines = new Lines();
  readonly #buffer = Buffer.allocUnsafe(chunkBytes);

  /** @param position null: from the beginning of the file that is there */
  constructor(
    private readonly path: string,
    position: LogPosition | null,
  ) {
    this.#position = position;
  }

  /** Behind the lines that next() has answered. Texts of lines are there until it is called again. */
  get position(): LogPosition | null {
    return this.#position === null ? null : { ...this.#position };
  }

  /** What has come, up to a bound; empty: nothing new is there. */
  async next(): Promise<LogLine[]> {
    // each turn ends one file
    for (;;) {
      if (this.#file === null && !(await this.#open())) return [];
      const lines = await this.#read();
      if (lines.length > 0) return lines;
      const following = await this.#following();
      if (following === null) return [];
      // between the last read and the look at the directory some more may have come
      const last = await this.#read();
      if (last.length > 0) return last;
      await this.close();
      this.#position = following;
      const cut = this.#lines.flush();
      if (cut.length > 0) return cut;
    }
  }

  /** What has come of a line that its container, which has ended, will not complete. */
  flush(): LogLine[] {
    if (this.#position !== null) this.#position.offset = this.#offset;
    return this.#lines.flush();
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = null;
  }

  async #open(): Promise<boolean> {
    const files = await this.#files();
    const known = files.find(({ inode }) => inode === this.#position?.inode);
    // the file where it was left off is gone: what is there now begins with what is new
    const wanted = known ?? files.at(-1);
    if (wanted === undefined) return false;
    try {
      this.#file = await open(wanted.path, "r");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
      throw error;
    }
    const { ino: inode, size } = await this.#file.stat();
    const same = this.#position !== null && this.#position.inode === inode && this.#position.offset <= size;
    this.#offset = same ? (this.#position?.offset ?? 0) : 0;
    this.#position = { inode, offset: this.#offset };
    return true;
  }

  /** The log and what it was renamed to, the oldest first. Those that were compressed are not read. */
  async #files(): Promise<{ path: string; inode: number }[]> {
    const [directory, base] = [dirname(this.path), basename(this.path)];
    const names = (await readdir(directory).catch(() => []))
      .filter((name) => name.startsWith(`${base}.`) && !/\.(?:gz|tmp)$/.test(name))
      .sort();
    const files: { path: string; inode: number }[] = [];
    for (const name of [...names, base]) {
      const path = join(directory, name);
      const found = await stat(path).catch(() => null);
      if (found?.isFile()) files.push({ path, inode: found.ino });
    }
    return files;
  }

  /** The file that has followed the one that is open; null: it is the last. */
  async #following(): Promise<LogPosition | null> {
    const own = this.#position?.inode;
    const current = await stat(this.path).catch(() => null);
    // renamed, and there is no new one yet
    if (current === null) return null;
    if (current.ino === own) {
      // cut off from the outside
      return current.size < this.#offset ? { inode: current.ino, offset: 0 } : null;
    }
    const files = await this.#files();
    const index = files.findIndex(({ inode }) => inode === own);
    const next = index === -1 ? files.at(-1) : files[index + 1];
    return next === undefined ? null : { inode: next.inode, offset: 0 };
  }

  async #read(): Promise<LogLine[]> {
    const position = this.#position;
    if (this.#file === null || position === null) return [];
    const { bytesRead } = await this.#file.read(this.#buffer, 0, chunkBytes, this.#offset);
    const bytes = this.#buffer.subarray(0, bytesRead);
    const lines: LogLine[] = [];
    let begin = 0;
    for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, begin)) {
      const line = this.#lines.take(bytes.subarray(begin, end), this.#offset + begin);
      if (line !== null) lines.push(line);
      begin = end + 1;
    }
    // no log of ours has a record as long as this
    if (begin === 0 && bytesRead === chunkBytes) begin = bytesRead;
    this.#offset += begin;
    position.offset = this.#lines.begin ?? this.#offset;
    return lines;
  }
}

/** Puts the parts of lines together, those of each stream by themselves. */
class Lines {
  readonly #open = new Map<string, { line: LogLine; parts: Buffer[]; length: number; begin: number }>();

  /** Where the first part of a line stands whose end has not come; null: there is none. */
  get begin(): number | null {
    return this.#open.size === 0 ? null : Math.min(...[...this.#open.values()].map(({ begin }) => begin));
  }

  /** The line that the record completes, or makes long enough; its text may be a view of the record. */
  take(record: Buffer, begin: number): LogLine | null {
    const line = parseRecord(record);
    if (line === null) return null;
    const open = this.#open.get(line.stream);
    const length = (open?.length ?? 0) + line.text.length;
    if (line.partial && length < longestLine) {
      const parts = [...(open?.parts ?? []), Buffer.from(line.text)];
      this.#open.set(line.stream, { line: open?.line ?? line, parts, length, begin: open?.begin ?? begin });
      return null;
    }
    if (open === undefined) return line;
    this.#open.delete(line.stream);
    return { ...open.line, text: Buffer.concat([...open.parts, line.text]), partial: line.partial };
  }

  /** What has come of lines that do not go on. */
  flush(): LogLine[] {
    const lines = [...this.#open.values()].map(({ line, parts }) => ({ ...line, text: Buffer.concat(parts) }));
    this.#open.clear();
    return lines;
  }
}

export function parseRecord(record: Buffer): LogLine | null {
  const timeEnd = record.indexOf(space);
  const streamEnd = record.indexOf(space, timeEnd + 1);
  const tagEnd = record.indexOf(space, streamEnd + 1);
  if (timeEnd === -1 || streamEnd === -1 || tagEnd === -1) return null;
  const stream = record.toString("latin1", timeEnd + 1, streamEnd);
  if (stream !== "stdout" && stream !== "stderr") return null;
  return {
    time: record.toString("latin1", 0, timeEnd),
    stream,
    text: record.subarray(tagEnd + 1),
    partial: record[streamEnd + 1] === partialTag,
  };
}
