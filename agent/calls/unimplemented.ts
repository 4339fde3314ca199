import { UnimplementedError } from "../../sandbox/errors.js";

/** A handler for a call that this version does not have; the sentence says so to its caller. */
export function unimplemented(sentence: string): () => never {
  return () => {
    throw new UnimplementedError(sentence);
  };
}
