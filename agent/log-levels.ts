/** What of the log has a level of its own. */
export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

export const logAreas = ["calls", "steps", "events"] as const;
export type LogArea = (typeof logAreas)[number];
export type LogAreas = Readonly<Partial<Record<LogArea, LogLevel>>>;

/** "calls=warn,steps=debug"; null: it is not of that form. */
export function parseLogAreas(text: string): LogAreas | null {
  const areas: Partial<Record<LogArea, LogLevel>> = {};
  for (const part of text.split(",").filter((one) => one !== "")) {
    const [area, level, ...more] = part.split("=");
    if (more.length > 0 || !isOneOf(logAreas, area) || !isOneOf(logLevels, level)) return null;
    areas[area] = level;
  }
  return areas;
}

function isOneOf<T extends string>(all: readonly T[], word: string | undefined): word is T {
  return all.some((one) => one === word);
}
