import type Long from "long";
import { InvalidArgumentError } from "../errors.js";

/** An int64 or uint64 of a request as a number; absent is 0. InvalidArgumentError beyond 2^53, where digits get lost. */
export function toNumber(value: Long | null | undefined, field: string): number {
  const number = value?.toNumber() ?? 0;
  if (!Number.isSafeInteger(number)) throw new InvalidArgumentError(`${field}: ${value} is out of range`);
  return number;
}
