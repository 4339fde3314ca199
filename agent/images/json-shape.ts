/** JSON that comes from outside: how much work a document is, found before it is read at the cost of the event loop. */

/** Four mebibytes of brackets, or of short names, take JSON.parse most of a second, in which nobody is answered. */
const maxDepth = 64;
const maxValues = 50_000;

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const opening = [0x5b, 0x7b];
const closing = [0x5d, 0x7d];

/**
 * What is wrong with a document's shape, as the end of a sentence; undefined: it may be parsed. It need not be JSON.
 * @param bytes UTF-8
 */
export function shapeProblem(bytes: Uint8Array): string | undefined {
  let depth = 0;
  let values = 1;
  let inString = false;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number;
    if (inString) {
      if (byte === backslash) index++;
      else if (byte === quote) inString = false;
    } else if (byte === quote) inString = true;
    else if (byte === comma) values++;
    else if (byte === opening[0] || byte === opening[1]) {
      values++;
      depth++;
      if (depth > maxDepth) return `is nested more than ${maxDepth} deep`;
    } else if (byte === closing[0] || byte === closing[1]) depth--;
  }
  return values > maxValues ? `has more than ${maxValues} values` : undefined;
}
