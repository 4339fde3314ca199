/**
 * The texts of the configuration that is in force, kept below --run: an agent that is started again on a running node when
 * somebody has broken a file takes the ones before, says so, and serves. After a boot there are none, and it does not start.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError, messageOf } from "../../sandbox/errors.js";
import { type Config, checkConfig, type WrittenSettings } from "../config.js";
import { defaultConfigFile, settings } from "../settings.js";
import { type ConfigText, mergeConfigTexts, readConfigTexts } from "./files.js";

export interface StartConfig {
  readonly config: Config;
  readonly texts: readonly ConfigText[];
  /** why the files are not what counts; null: they are */
  readonly refused: string | null;
}

const keptName = "config-in-force.json";

/** @throws InvalidArgumentError when the files are refused, and there are none of before either */
export function loadStartConfig(flags: WrittenSettings, file: string | null): StartConfig {
  try {
    const texts = readConfigTexts(file ?? defaultConfigFile, file === null);
    return { config: checkConfig(flags, mergeConfigTexts(texts)), texts, refused: null };
  } catch (error) {
    // a file that names another --run cannot be asked for it
    const texts = keptTexts(flags.run ?? String(settings.run.default));
    if (!(error instanceof InvalidArgumentError) || texts === undefined || !fits(flags, texts)) throw error;
    return { config: checkConfig(flags, mergeConfigTexts(texts)), texts, refused: messageOf(error) };
  }
}

/** Keeps them for the next start. */
export function keepTexts(run: string, texts: readonly ConfigText[]): void {
  const path = join(run, keptName);
  writeFileSync(`${path}.new`, JSON.stringify(texts), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function keptTexts(run: string): ConfigText[] | undefined {
  try {
    return JSON.parse(readFileSync(join(run, keptName), "utf8")) as ConfigText[];
  } catch {
    return undefined;
  }
}

/** Flags are not kept: when they are wrong, no file helps. */
function fits(flags: WrittenSettings, texts: readonly ConfigText[]): boolean {
  try {
    checkConfig(flags, mergeConfigTexts(texts));
    return true;
  } catch {
    return false;
  }
}
