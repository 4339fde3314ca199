/** What berth-unpack and berth-archive have in common: how they are told, and how they say why they failed. */
import type { Readable } from "node:stream";
import { isDiskFullErrno } from "../errno.js";
import { type BerthError, InternalError, ResourceExhaustedError } from "../errors.js";

/** How a child process has ended. */
export interface Ending {
  /** it could not be started */
  error?: Error;
  code?: number | null;
  name?: NodeJS.Signals | null;
}

/** The cause of a failure that the program itself has told: its line on standard error, as it is. */
export class ProgramReport extends Error {}

/** of what such a program writes, on each of its streams */
export const maxOutputBytes = 64 * 1024 ** 2;
const errnoOfMemory = 12;

export function collect(stream: Readable): { text(): string } {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= maxOutputBytes) chunks.push(chunk);
  });
  return { text: () => Buffer.concat(chunks).toString("utf8") };
}

/** @param what begins the sentence: "the layer could not be unpacked" */
export function failureOf(program: string, what: string, ending: Ending, errors: string): BerthError {
  if (ending.error !== undefined) {
    return new InternalError(`${program} could not be started: ${ending.error.message}`, { cause: ending.error });
  }
  const told = parseFailure(errors);
  if (told === undefined) {
    const how = ending.name ? `was ended by ${ending.name}` : `ended with code ${ending.code}`;
    return new InternalError(`${what}: its process ${how}: ${errors.slice(0, 500)}`);
  }
  const path = Buffer.from(told.path, "latin1").toString("utf8");
  const where = path === "" ? "" : ` "${path}"`;
  const why = told.errno !== 0 ? `errno ${told.errno}` : told.message;
  const message = `${what}: ${told.step}${where}: ${why}`;
  const options = { cause: new ProgramReport(errors.trim()) };
  if (isDiskFullErrno(told.errno)) return new ResourceExhaustedError(`${message} (no space left)`, options);
  if (told.errno === errnoOfMemory) return new ResourceExhaustedError(`${message} (${told.message})`, options);
  return new InternalError(message, options);
}

function parseFailure(text: string): { step: string; path: string; errno: number; message: string } | undefined {
  try {
    const told = JSON.parse(text) as { step: string; path: string; errno: number; message: string };
    return typeof told.step === "string" ? told : undefined;
  } catch {
    return undefined;
  }
}
