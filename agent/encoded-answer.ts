/** Answers whose bytes are made before: long ones piece by piece, which would keep the event loop, and lists of what hardly changes. */

const piecesOf = new WeakMap<object, readonly Uint8Array[]>();

/**
 * @param pieces messages of the answer's type: one behind the other they are one message, with the items of all of them
 *   (Protocol Buffers, "Encoding", section "Last One Wins")
 */
export function encodedAnswer(pieces: readonly Uint8Array[]): object {
  const answer = {};
  piecesOf.set(answer, pieces);
  return answer;
}

/** An answer that waits to be sent. */
export class EncodedAnswer {
  private constructor(
    private readonly pieces: readonly Uint8Array[],
    readonly byteLength: number,
    /** of its own while it waits: pieces are known, and put together in the end */
    readonly heldBytes: number,
  ) {}

  static of<A>(answer: A, encode: (answer: A) => Uint8Array): EncodedAnswer {
    const pieces = typeof answer === "object" && answer !== null ? piecesOf.get(answer) : undefined;
    if (pieces !== undefined)
      return new EncodedAnswer(
        pieces,
        pieces.reduce((sum, { length }) => sum + length, 0),
        0,
      );
    const bytes = encode(answer);
    return new EncodedAnswer([bytes], bytes.length, bytes.length);
  }

  bytes(): Buffer {
    const [first, ...more] = this.pieces;
    if (first === undefined || more.length > 0) return Buffer.concat(this.pieces);
    return Buffer.from(first.buffer, first.byteOffset, first.byteLength);
  }
}

/**
 * Pieces of a list's answers that were encoded before. A kubelet lists everything each second, and nearly nothing of it has
 * changed: hundreds of pods, containers or images take milliseconds to encode, and leave as much to the collector.
 */
export class KnownPieces<T extends object> {
  readonly #known = new WeakMap<T, { state: string; bytes: Uint8Array }>();

  /** @param state all of what the piece says that can change while there is the thing */
  of(thing: T, state: string, encode: () => Uint8Array): Uint8Array {
    const before = this.#known.get(thing);
    if (before?.state === state) return before.bytes;
    const bytes = encode();
    this.#known.set(thing, { state, bytes });
    return bytes;
  }
}
