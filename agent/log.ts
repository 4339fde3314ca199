import pino from "pino";
import type { Config } from "./config.js";

export type Log = pino.Logger;

/** One JSON object a line to stderr. Written at once: what a crash was about must not stay in a buffer. */
export function openLog(level: Config["logLevel"]): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}
