/** Answers that are too long to be encoded in one go, which would keep the event loop: their bytes are made before. */

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
