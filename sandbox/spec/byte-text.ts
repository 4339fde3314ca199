/**
 * Bytes as text that gives them back, whatever they are: an environment may hold what is not UTF-8, and a spec is JSON.
 * A byte that is part of no UTF-8 becomes the lone surrogate U+DC00 + byte, which no other text holds.
 */
import { isUtf8 } from "node:buffer";

const escapeBase = 0xdc00;
const longestSequence = 4;

export function bytesToText(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString("utf8");
  const parts: string[] = [];
  let begin = 0;
  for (let at = 0; at < buffer.length; ) {
    const length = sequenceLength(buffer, at);
    if (length === 0) {
      parts.push(buffer.toString("utf8", begin, at), String.fromCharCode(escapeBase + (buffer[at] ?? 0)));
      begin = at + 1;
    }
    at += Math.max(length, 1);
  }
  return [...parts, buffer.toString("utf8", begin)].join("");
}

export function textToBytes(text: string): Uint8Array {
  if (!/[\udc80-\udcff]/u.test(text)) return Buffer.from(text, "utf8");
  // with the u flag a surrogate of a pair is no match
  const parts = text.split(/([\udc80-\udcff])/u);
  return Buffer.concat(
    parts.map((part, index) =>
      index % 2 === 1 ? Buffer.of(part.charCodeAt(0) - escapeBase) : Buffer.from(part, "utf8"),
    ),
  );
}

/** Of the character that begins here; 0: none does. */
function sequenceLength(buffer: Buffer, at: number): number {
  for (let length = 1; length <= longestSequence && at + length <= buffer.length; length++) {
    if (isUtf8(buffer.subarray(at, at + length))) return length;
  }
  return 0;
}
