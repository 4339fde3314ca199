import { printable } from "./output.js";

/** A failure as one sentence for people. */
export function sentenceOf(error: unknown): string {
  return printable(wholeSentenceOf(error));
}

function wholeSentenceOf(error: unknown): string {
  // a gRPC error's message starts with its number; its details are the agent's own sentence
  if (error instanceof Error && "details" in error && typeof error.details === "string" && error.details !== "") {
    return error.details;
  }
  return error instanceof Error ? error.message : String(error);
}
