import { type FileHandle, open, stat } from "node:fs/promises";

export interface LogFollower {
  /** prints what has come since the last time, also in files that have taken this one's place */
  print(): Promise<void>;
  close(): Promise<void>;
}

export interface LogOptions {
  json: boolean;
  /** records before it are left out; as in the log: "2026-01-02T03:04:05.000000006Z" */
  since?: string;
  /** only so many of the lines that are there at first */
  tail?: number;
}

const chunkBytes = 64 * 1024;
const newline = 10;

/** Follows a CRI log ("TIME STREAM TAG text", P for a part of a line) to stdout and stderr, or as JSON objects. */
export function openLogFollower(path: string, options: LogOptions): LogFollower {
  let file: FileHandle | null = null;
  let position = 0;
  /** of a record that has not come whole */
  let rest: Buffer[] = [];
  let first = true;
  const buffer = Buffer.alloc(chunkBytes);

  const printRest = async (from: FileHandle): Promise<void> => {
    while (true) {
      const { bytesRead } = await from.read(buffer, 0, chunkBytes, position);
      if (bytesRead === 0) return;
      position += bytesRead;
      const bytes = buffer.subarray(0, bytesRead);
      let begin = 0;
      for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, begin)) {
        const record = Buffer.concat([...rest, bytes.subarray(begin, end)]);
        rest = [];
        if (!printRecord(record, options)) await drained();
        begin = end + 1;
      }
      if (begin < bytesRead) rest.push(Buffer.from(bytes.subarray(begin)));
    }
  };

  return {
    async print() {
      while (true) {
        if (file === null) {
          file = await openIfThere(path);
          if (file === null) return;
          position = first && options.tail !== undefined ? await findTail(file, options.tail) : 0;
          first = false;
        }
        await printRest(file);
        if (await isCurrent(path, file, position)) return;
        // renamed: nothing more is written to it once the new one is there, but some may have been in between
        await printRest(file);
        await file.close();
        file = null;
        rest = [];
      }
    },
    async close() {
      await file?.close();
    },
  };
}

/** Where the last `count` lines begin. A line ends with a record F; the last one may not have come to its end. */
async function findTail(file: FileHandle, count: number): Promise<number> {
  const { size } = await file.stat();
  const records = new RecordsBackwards(file, size);
  let lines = 0;
  let begin = size;
  for (let record = await records.next(); record !== null; record = await records.next()) {
    // one more line's end than is wanted: what comes after it is the tail
    if ((begin === size || isFull(record.text)) && ++lines > count) return begin;
    begin = record.at;
  }
  return begin;
}

class RecordsBackwards {
  /** what was not given out yet of the file, from #at on, in its order; the first piece alone was not looked through */
  #known: Buffer[] = [];

  constructor(
    private readonly file: FileHandle,
    private at: number,
  ) {}

  async next(): Promise<{ at: number; text: Buffer } | null> {
    while (true) {
      const [first = Buffer.alloc(0), ...others] = this.#known;
      // the last byte of all is the record's own newline
      const end = first.length - (others.length === 0 ? 2 : 1);
      const before = end < 0 ? -1 : first.lastIndexOf(newline, end);
      if (before !== -1) {
        this.#known = [first.subarray(0, before + 1)];
        return { at: this.at + before + 1, text: Buffer.concat([first.subarray(before + 1), ...others]) };
      }
      if (this.at === 0) {
        this.#known = [];
        return first.length === 0 ? null : { at: 0, text: Buffer.concat([first, ...others]) };
      }
      const length = Math.min(chunkBytes, this.at);
      const chunk = Buffer.alloc(length);
      const { bytesRead } = await this.file.read(chunk, 0, length, this.at - length);
      if (bytesRead < length) return null;
      this.at -= length;
      this.#known.unshift(chunk);
    }
  }
}

function isFull(record: Buffer): boolean {
  const streamEnd = record.indexOf(32, record.indexOf(32) + 1);
  return record[streamEnd + 1] === 0x46;
}

/** False: wait until what was written before has gone. */
function printRecord(record: Buffer, { json, since }: LogOptions): boolean {
  const timeEnd = record.indexOf(32);
  const streamEnd = record.indexOf(32, timeEnd + 1);
  const tagEnd = record.indexOf(32, streamEnd + 1);
  if (timeEnd === -1 || streamEnd === -1 || tagEnd === -1) return true;
  const time = record.toString("latin1", 0, timeEnd);
  if (since !== undefined && time < since) return true;
  const stream = record.toString("latin1", timeEnd + 1, streamEnd);
  const partial = record[streamEnd + 1] === 0x50;
  const text = record.subarray(tagEnd + 1);
  if (json) {
    const line = JSON.stringify({ time, stream, partial, text: text.toString("utf8") });
    return process.stdout.write(`${line}\n`);
  }
  const output = stream === "stderr" ? process.stderr : process.stdout;
  // a copy: the buffer is filled again
  return output.write(partial ? Buffer.from(text) : Buffer.concat([text, Buffer.from("\n")]));
}

async function drained(): Promise<void> {
  for (const output of [process.stdout, process.stderr]) {
    if (output.writableNeedDrain) await new Promise<void>((resolve) => output.once("drain", resolve));
  }
}

/** Nothing has taken its place, and it was not cut off. */
async function isCurrent(path: string, file: FileHandle, position: number): Promise<boolean> {
  try {
    const [named, own] = await Promise.all([stat(path), file.stat()]);
    return named.ino === own.ino && named.dev === own.dev && own.size >= position;
  } catch (error) {
    // renamed, and there is no new one yet
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return true;
    throw error;
  }
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
