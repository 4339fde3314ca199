import { type FileHandle, open } from "node:fs/promises";

export interface LogFollower {
  /** prints what has come since the last time */
  print(): Promise<void>;
  close(): Promise<void>;
}

const chunkBytes = 64 * 1024;

/** Follows a CRI log ("TIME STREAM TAG text", P for a part of a line) to stdout and stderr, or as JSON objects. */
export function openLogFollower(path: string, json: boolean): LogFollower {
  let file: FileHandle | null = null;
  let rest = Buffer.alloc(0);
  const buffer = Buffer.alloc(chunkBytes);
  return {
    async print() {
      file ??= await openIfThere(path);
      if (file === null) return;
      while (true) {
        const { bytesRead } = await file.read(buffer, 0, chunkBytes);
        if (bytesRead === 0) return;
        rest = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
        for (let end = rest.indexOf(10); end !== -1; end = rest.indexOf(10)) {
          printRecord(rest.subarray(0, end), json);
          rest = rest.subarray(end + 1);
        }
      }
    },
    async close() {
      await file?.close();
    },
  };
}

function printRecord(record: Buffer, json: boolean): void {
  const timeEnd = record.indexOf(32);
  const streamEnd = record.indexOf(32, timeEnd + 1);
  const tagEnd = record.indexOf(32, streamEnd + 1);
  if (timeEnd === -1 || streamEnd === -1 || tagEnd === -1) return;
  const stream = record.toString("latin1", timeEnd + 1, streamEnd);
  const partial = record[streamEnd + 1] === 0x50;
  const text = record.subarray(tagEnd + 1);
  if (json) {
    const time = record.toString("latin1", 0, timeEnd);
    process.stdout.write(`${JSON.stringify({ time, stream, partial, text: text.toString("utf8") })}\n`);
    return;
  }
  const output = stream === "stderr" ? process.stderr : process.stdout;
  output.write(partial ? text : Buffer.concat([text, Buffer.from("\n")]));
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
