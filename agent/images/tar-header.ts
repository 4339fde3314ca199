/** Headers of tar, as POSIX's ustar has them. */
export const blockBytes = 512;
const maxOctal = 0o77777777777;

/** Of a file of root's, from no particular time. */
export function tarHeader(name: string, bytes: number, mode = 0o644): Buffer {
  const block = Buffer.alloc(blockBytes);
  block.write(name, 0, "latin1");
  for (const [text, offset] of [
    [`${mode.toString(8).padStart(7, "0")}\0`, 100],
    ["0000000\0", 108],
    ["0000000\0", 116],
    ["00000000000\0", 136],
    ["        ", 148],
    ["0", 156],
    ["ustar\x0000", 257],
  ] as const) {
    block.write(text, offset, "latin1");
  }
  if (bytes <= maxOctal) block.write(`${bytes.toString(8).padStart(11, "0")}\0`, 124, "latin1");
  else {
    // GNU's form for large numbers, which all readers know
    block[124] = 0x80;
    block.writeBigUInt64BE(BigInt(bytes), 128);
  }
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

/** What follows so many bytes of a member. */
export function padding(bytes: number): Buffer {
  return Buffer.alloc((blockBytes - (bytes % blockBytes)) % blockBytes);
}
