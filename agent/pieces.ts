/** Long lists as streams: in messages that each client can take, however many things a node has. */

/** One message holds no more than either, except for a thing that is larger by itself. */
const maxItems = 200;
const maxBytes = 1024 * 1024;

export interface Encoder<T> {
  encode(item: T): { finish(): Uint8Array };
}

export function* inPieces<T>(items: readonly T[], { encode }: Encoder<T>): Generator<T[]> {
  let piece: T[] = [];
  let bytes = 0;
  for (const item of items) {
    const size = encode(item).finish().length;
    if (piece.length === maxItems || (piece.length > 0 && bytes + size > maxBytes)) {
      yield piece;
      piece = [];
      bytes = 0;
    }
    piece.push(item);
    bytes += size;
  }
  if (piece.length > 0) yield piece;
}
