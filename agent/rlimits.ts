import { InvalidArgumentError } from "../sandbox/errors.js";
import { rlimitTypes } from "../sandbox/rlimits.js";
import type { PosixRlimit } from "../sandbox/spec/oci.js";

/**
 * The configuration's table of limits: `nofile = "1024:4096"` (soft and hard), `core = "0"` (both), "unlimited" for a
 * number. `place` is where the table is written.
 */
export function parseRlimits(table: unknown, place: string): PosixRlimit[] {
  if (table === undefined) return [];
  if (typeof table !== "object" || table === null || Array.isArray(table)) {
    throw new InvalidArgumentError(`${place} is not a table of limits, as nofile = "1024:4096"`);
  }
  return Object.entries(table).map(([name, value]: [string, unknown]) => {
    const type = `RLIMIT_${name.toUpperCase()}`;
    if (!rlimitTypes.includes(type)) throw new InvalidArgumentError(`${place}.${name} is no limit that the kernel has`);
    const [first, second, ...more] = String(value).split(":").map(limit);
    const soft = first;
    const hard = second === undefined && !String(value).includes(":") ? first : second;
    if (soft === undefined || hard === undefined || more.length > 0) {
      throw new InvalidArgumentError(`${place}.${name} ${JSON.stringify(value)} is not SOFT:HARD, as "1024:4096"`);
    }
    if (soft > hard) {
      throw new InvalidArgumentError(`${place}.${name} ${JSON.stringify(value)} has a soft limit above the hard one`);
    }
    return { type, soft, hard };
  });
}

/** RLIM_INFINITY, rounded to what a number holds, for "unlimited". */
function limit(text: string): number | undefined {
  if (text === "unlimited") return 2 ** 64;
  const number = Number(text);
  return /^[0-9]{1,16}$/.test(text) && Number.isSafeInteger(number) ? number : undefined;
}
