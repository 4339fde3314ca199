/** Answers whose bytes are made before: long ones piece by piece, which would keep the event loop, and lists of what hardly changes. */

const bytesOf = new WeakMap<object, Buffer>();

/**
 * @param pieces messages of the answer's type: one behind the other they are one message, with the items of all of them
 *   (Protocol Buffers, "Encoding", section "Last One Wins")
 */
export function encodedAnswer(pieces: readonly Uint8Array[]): object {
  const answer = {};
  bytesOf.set(answer, Buffer.concat(pieces));
  return answer;
}

/** Undefined: it is an answer like any other. */
export function encodedBytes(answer: unknown): Buffer | undefined {
  return typeof answer === "object" && answer !== null ? bytesOf.get(answer) : undefined;
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
