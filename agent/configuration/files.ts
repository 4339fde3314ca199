/**
 * The configuration as it is written: a file, and the drop-ins beside it, as one object that remembers where each value
 * stands. What the values mean is config.ts' affair.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse, TomlError } from "smol-toml";
import { InvalidArgumentError, messageOf } from "../../sandbox/errors.js";
import { readSmallFileSync } from "../../sandbox/small-files.js";
import { lineOf } from "./lines.js";

export interface ConfigText {
  readonly path: string;
  readonly text: string;
}

export interface WrittenConfig {
  readonly values: Readonly<Record<string, unknown>>;
  /** "FILE:LINE" of a setting, or of what stands deeper in it; undefined: no file has it */
  placeOf(key: readonly string[]): string | undefined;
}

/**
 * Reads the file and `config.d/*.toml` beside it, in the order of their names.
 * @param mayBePipe a shell's <(command) is taken; while pods are served nobody may wait for who does not write to one
 * @throws InvalidArgumentError when one cannot be read; the main file may be missing when `mayBeMissing`
 */
export function readConfigTexts(path: string, mayBeMissing: boolean, mayBePipe = true): ConfigText[] {
  const texts: ConfigText[] = [];
  const main = read(path, mayBeMissing, (file) => readMain(file, mayBePipe));
  if (main !== undefined) texts.push({ path, text: main });
  for (const name of dropIns(path)) {
    // it may have been removed since the directory was read
    const text = read(name, true, readSmallFileSync);
    if (text !== undefined) texts.push({ path: name, text });
  }
  return texts;
}

/** The drop-ins' paths; there need be no directory. */
export function dropIns(path: string): string[] {
  const directory = join(dirname(path), "config.d");
  try {
    return readdirSync(directory)
      .filter((name) => name.endsWith(".toml") && !name.startsWith("."))
      .sort()
      .map((name) => join(directory, name));
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw new InvalidArgumentError(`the configuration cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * Puts texts together: of a setting that several have the last counts; of a table, entry by entry.
 * @throws InvalidArgumentError with file, line and column where one is not TOML
 */
export function mergeConfigTexts(texts: readonly ConfigText[]): WrittenConfig {
  const values: Record<string, unknown> = {};
  const origins = new Map<string, ConfigText>();
  for (const text of texts) {
    for (const [name, value] of Object.entries(parseToml(text))) {
      if (isTable(value)) {
        const before = values[name];
        values[name] = isTable(before) ? { ...before, ...value } : value;
        for (const entry of Object.keys(value)) origins.set(originKey(name, entry), text);
      } else {
        values[name] = value;
      }
      origins.set(originKey(name), text);
    }
  }
  const placeOf = (key: readonly string[]): string | undefined => {
    const [name = "", entry] = key;
    const text =
      (entry === undefined ? undefined : origins.get(originKey(name, entry))) ?? origins.get(originKey(name));
    return text === undefined ? undefined : `${text.path}:${lineOf(text.text, key)}`;
  };
  return { values, placeOf };
}

function read(path: string, mayBeMissing: boolean, readText: (path: string) => string): string | undefined {
  try {
    return readText(path);
  } catch (error) {
    if (mayBeMissing && (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new InvalidArgumentError(`the configuration file cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

function readMain(path: string, mayBePipe: boolean): string {
  const stats = statSync(path);
  // /dev/null, most often
  const isRead = stats.isCharacterDevice() || (stats.isFIFO() && mayBePipe);
  return isRead ? readFileSync(path, "utf8") : readSmallFileSync(path);
}

function parseToml({ path, text }: ConfigText): Record<string, unknown> {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const sentence = error.message.split("\n")[0] ?? "";
    // true and false are none of Berth's values
    const isBare = /^\s*[\w-]+\s*=\s*[A-Za-z/]/.test(text.split("\n")[error.line - 1] ?? "");
    const hint = isBare ? ' (texts are in quotes: name = "value")' : "";
    throw new InvalidArgumentError(`${path}:${error.line}:${error.column}: ${sentence}${hint}`, { cause: error });
  }
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function originKey(name: string, entry?: string): string {
  return JSON.stringify([name, entry]);
}
