import type { Metadata } from "@grpc/grpc-js";
import { printable } from "./output.js";

/** What the command ends with; docs/cli.md tells scripts. */
export const exitCodes = {
  /** or something was found that should not be */
  failed: 1,
  usage: 2,
  noAgent: 3,
  notKnown: 4,
  /** what it is about is not in a state for it */
  refused: 5,
  tooLate: 6,
  /** of exec, attach and run: whatever kept the program from running, or from being heard; else they end with its own code */
  ownFailure: 125,
} as const;

/** The command line is wrong; the sentence names the word. */
export class UsageError extends Error {}

/** There is no such pod, container or image. */
export class NotKnownError extends Error {}

/** What it is about is not in a state for it. */
export class RefusedError extends Error {}

/** Nobody listens on the socket. */
export class NoAgentError extends Error {}

/** gRPC's numbers */
const codesOfStatus: Readonly<Record<number, number>> = {
  3: exitCodes.usage,
  4: exitCodes.tooLate,
  5: exitCodes.notKnown,
  6: exitCodes.refused,
  9: exitCodes.refused,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return exitCodes.usage;
  if (error instanceof NotKnownError) return exitCodes.notKnown;
  if (error instanceof NoAgentError) return exitCodes.noAgent;
  if (error instanceof RefusedError) return exitCodes.refused;
  const { code, details } = error as { code?: unknown; details?: unknown };
  // a gRPC error has both
  if (typeof code !== "number" || typeof details !== "string") return exitCodes.failed;
  return codesOfStatus[code] ?? exitCodes.failed;
}

/** Undefined: what it asks for is not there, or not any more. */
export async function unlessUnknown<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (exitCodeOf(error) === exitCodes.notKnown) return undefined;
    throw error;
  }
}

/** Runs what ends with another program's code: failures of its own must not look like that program's. */
export async function withProgramsCode(run: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await run();
  } catch (error) {
    process.stderr.write(`berth: ${sentenceOf(error)}\n`);
    process.exitCode = exitCodes.ownFailure;
  }
}

/** A failure as one sentence for people. */
export function sentenceOf(error: unknown): string {
  return printable(wholeSentenceOf(error));
}

function wholeSentenceOf(error: unknown): string {
  // a gRPC error's message starts with its number; its details are the agent's own sentence. By the id its log has more
  if (error instanceof Error && "details" in error && typeof error.details === "string" && error.details !== "") {
    const [request] = (error as { metadata?: Metadata }).metadata?.get("berth-request-id") ?? [];
    return request === undefined ? error.details : `${error.details} (request ${request})`;
  }
  return error instanceof Error ? error.message : String(error);
}
