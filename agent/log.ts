import pino from "pino";
import { currentRequestId } from "../sandbox/request-id.js";
import { type LogArea, type LogAreas, type LogLevel, logAreas } from "./log-levels.js";

/** With a log for each area, whose lines name it. */
export type Log = pino.Logger & { readonly areas: Readonly<Record<LogArea, pino.Logger>> };

/** Of lines that cannot be written, until they can; what is more is dropped. */
const mostWaitingBytes = 256 * 1024;

/** One JSON object a line to stderr; while a call is served, with its id. Written at once: what a crash was about must not stay in a buffer. */
export function openLog(level: LogLevel, areas: LogAreas = {}): Log {
  const destination = pino.destination({ dest: 2, sync: true, maxLength: mostWaitingBytes });
  // a file on a full disk, most often: nobody could be told
  destination.on("error", () => undefined);
  const root = pino(
    {
      level,
      base: null,
      mixin: () => {
        const request = currentRequestId();
        return request === undefined ? {} : { request };
      },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
  const children = Object.fromEntries(logAreas.map((area) => [area, root.child({ area })])) as Log["areas"];
  const log: Log = Object.assign(root, { areas: children });
  setLogLevels(log, level, areas);
  return log;
}

/** From now on. */
export function setLogLevels(log: Log, level: LogLevel, areas: LogAreas): void {
  log.level = level;
  for (const area of logAreas) log.areas[area].level = areas[area] ?? level;
}
