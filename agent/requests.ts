/** Checks that calls share. Each throws an InvalidArgumentError that names the field. */
import { InvalidArgumentError } from "../sandbox/errors.js";

/** The value, when it is there: a message that is set, a string that is not empty. */
export function required<T>(value: T | null | undefined, field: string): T {
  if (value === null || value === undefined || value === "") throw new InvalidArgumentError(`${field} is missing`);
  return value;
}

/** Which streams an exec or an attach may ask for. */
export function checkStreams({
  tty,
  stdin,
  stdout,
  stderr,
}: Record<"tty" | "stdin" | "stdout" | "stderr", boolean>): void {
  if (!stdin && !stdout && !stderr) throw new InvalidArgumentError("one of stdin, stdout and stderr must be set");
  if (tty && stderr) throw new InvalidArgumentError("stderr: with tty there is no stderr, a terminal has one output");
}

/** Seconds of a request (int64) as milliseconds; at most what a JavaScript number counts exactly. */
export function secondsToMs(seconds: { toString(): string }, field: string): number {
  const value = BigInt(seconds.toString());
  if (value < 0n) throw new InvalidArgumentError(`${field}: ${value} is negative`);
  const ms = value * 1000n;
  return ms > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(ms);
}
