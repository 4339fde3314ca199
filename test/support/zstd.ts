/** What zstd writes for bytes that it cannot compress, in frames of at most 64 KiB: Node 20 has no zstd. */
export function storedZstd(content: Uint8Array): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at === 0 || at < content.length; at += 65_536) {
    const piece = content.subarray(at, at + 65_536);
    const head = Buffer.alloc(12);
    head.writeUInt32LE(0xfd2fb528, 0);
    head.writeUInt8(0xa0, 4);
    head.writeUInt32LE(piece.length, 5);
    head.writeUIntLE((piece.length << 3) | 1, 9, 3);
    frames.push(head, Buffer.from(piece));
  }
  return Buffer.concat(frames);
}
