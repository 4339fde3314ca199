import { fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { native } from "../../native/binding.js";

const chunk = Buffer.allocUnsafe(1 << 20);

/** From the start of one regular file to another, which is empty. What is a hole stays one. */
export function copyContent(source: number, target: number): void {
  let at = 0;
  for (let data = native.nextData({ fd: source, from: 0 }); data !== null; ) {
    at = copyRange(source, target, data.start, data.end);
    // it has become shorter, or says that it is longer than it is
    if (at < data.end) return;
    data = native.nextData({ fd: source, from: at });
  }
  const { size } = fstatSync(source);
  if (size > at) ftruncateSync(target, size);
  copyRest(source, target, Math.max(size, at));
}

/** Answers where the source has ended. */
function copyRange(source: number, target: number, start: number, end: number): number {
  let at = start;
  while (at < end) {
    const count = readSync(source, chunk, 0, Math.min(chunk.length, end - at), at);
    if (count === 0) break;
    write(target, count, at);
    at += count;
  }
  return at;
}

/** What has been added meanwhile, and all of a file of the kernel's, whose size is 0; some of these know no places. */
function copyRest(source: number, target: number, start: number): void {
  for (let at = start; ; ) {
    const count = readSync(source, chunk, 0, chunk.length, start === 0 ? null : at);
    if (count === 0) return;
    write(target, count, at);
    at += count;
  }
}

function write(target: number, count: number, at: number): void {
  for (let done = 0; done < count; ) done += writeSync(target, chunk, done, count - done, at + done);
}
