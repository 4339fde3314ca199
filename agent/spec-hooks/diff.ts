/** A place in a spec that differs: "process.env[3]". */
export interface Change {
  path: string;
  /** undefined: it was not there */
  before: unknown;
  /** undefined: it is gone */
  after: unknown;
}

/** Where two JSON values differ, as deep as possible; lists are compared by position. */
export function* changes(before: unknown, after: unknown, path = ""): Generator<Change> {
  if (isObject(before) && isObject(after)) {
    for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
      yield* changes(before[key], after[key], path === "" ? key : `${path}.${key}`);
    }
  } else if (Array.isArray(before) && Array.isArray(after)) {
    for (let i = 0; i < Math.max(before.length, after.length); i++)
      yield* changes(before[i], after[i], `${path}[${i}]`);
  } else if (!Object.is(before, after)) {
    yield { path, before, after };
  }
}

/** "process.env[3]: nothing → "A=b"" */
export function changeText({ path, before, after }: Change): string {
  return `${path}: ${shown(before)} → ${shown(after)}`;
}

const longest = 200;

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length > longest ? `${text.slice(0, longest)}…` : text;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
