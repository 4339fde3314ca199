import { parse } from "smol-toml";

/**
 * In which line of a TOML text a key is given, from 1: the nearest one that the text has, when `key` leads to nothing. The
 * parser does not tell; but a key's value is complete with the first line up to which the text parses and has it.
 */
export function lineOf(text: string, key: readonly string[]): number {
  const lines = text.split("\n");
  for (let depth = key.length; depth > 0; depth--) {
    let begin = 0;
    for (let end = 1; end <= lines.length; end++) {
      const values = parsed(lines.slice(0, end));
      if (values === undefined) continue;
      if (has(values, key.slice(0, depth))) return begin + 1 + blankLines(lines.slice(begin, end));
      begin = end;
    }
  }
  return 1;
}

function parsed(lines: readonly string[]): unknown {
  try {
    return parse(lines.join("\n"));
  } catch {
    return undefined;
  }
}

function has(values: unknown, key: readonly string[]): boolean {
  let value = values;
  for (const part of key) {
    if (typeof value !== "object" || value === null || !(part in value)) return false;
    value = (value as Record<string, unknown>)[part];
  }
  return true;
}

/** Empty ones and comments at the beginning. */
function blankLines(lines: readonly string[]): number {
  const first = lines.findIndex((line) => !/^\s*(#|$)/.test(line));
  return Math.max(first, 0);
}
