import { open } from "node:fs/promises";

/** A line that a container has written. */
export interface LogLine {
  stream: "stdout" | "stderr";
  /** RFC 3339, with nanoseconds */
  time: string;
  text: string;
}

const chunkBytes = 64 * 1024;
const newline = 10;

/**
 * The lines of a container's CRI log ("TIME STREAM P|F TEXT"), from its beginning; parts of a line are put together. When
 * there are no more, `more` is asked whether some may come: false ends it.
 */
export async function* readLogLines(path: string, more: () => Promise<boolean>): AsyncGenerator<LogLine> {
  const begun = new Map<LogLine["stream"], { time: string; parts: Buffer[] }>();
  for await (const record of readRecords(path, more)) {
    const [time, stream, tag] = record.toString("latin1", 0, 64).split(" ", 3);
    if (time === undefined || (stream !== "stdout" && stream !== "stderr") || tag === undefined) continue;
    const line = begun.get(stream) ?? { time, parts: [] };
    line.parts.push(Buffer.from(record.subarray(time.length + stream.length + tag.length + 3)));
    begun.set(stream, line);
    if (tag.startsWith("P")) continue;
    begun.delete(stream);
    yield { stream, time: line.time, text: Buffer.concat(line.parts).toString("utf8") };
  }
  // a last line without an end has parts alone
  for (const [stream, { time, parts }] of begun) {
    yield { stream, time, text: Buffer.concat(parts).toString("utf8") };
  }
}

async function* readRecords(path: string, more: () => Promise<boolean>): AsyncGenerator<Buffer> {
  const file = await open(path, "r");
  try {
    const buffer = Buffer.alloc(chunkBytes);
    let rest = Buffer.alloc(0);
    let mayGrow = true;
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, chunkBytes, null);
      if (bytesRead === 0) {
        // what was written before its end is read once more
        if (!mayGrow) return;
        mayGrow = await more();
        continue;
      }
      rest = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
      let begin = 0;
      for (let end = rest.indexOf(newline); end !== -1; end = rest.indexOf(newline, begin)) {
        yield rest.subarray(begin, end);
        begin = end + 1;
      }
      rest = rest.subarray(begin);
    }
  } finally {
    await file.close();
  }
}
