/**
 * The configuration is read again on SIGHUP, and within seconds when one of its files has changed. What may change while
 * pods run counts at once, for what is made from then on; of the rest it is said that it waits for the agent's next start.
 * Files that are refused change nothing.
 */
import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { messageOf } from "../../sandbox/errors.js";
import { type Config, checkConfig, settingValues, type WrittenSettings } from "../config.js";
import { type Log, setLogLevels } from "../log.js";
import type { Runtime } from "../runtime.js";
import type { ServiceManager } from "../service-manager.js";
import { defaultConfigFile, type SettingName, settings, settingTables } from "../settings.js";
import { type ConfigText, dropIns, mergeConfigTexts, readConfigTexts } from "./files.js";
import { keepTexts } from "./in-force.js";
import { liveSettings } from "./live-settings.js";

export interface ConfigSource {
  readonly flags: WrittenSettings;
  /** null: the default one, which may be missing */
  readonly file: string | null;
}

const lookEveryMs = 3_000;

/** Until close(). `texts`: what the agent has started with. */
export function followConfig(
  runtime: Runtime,
  source: ConfigSource,
  texts: readonly ConfigText[],
  log: Log,
  manager: Pick<ServiceManager, "reloading" | "ready">,
): { close(): void } {
  let inForce = texts;
  let seen = signature(source);
  const look = async (): Promise<void> => {
    seen = signature(source);
    manager.reloading();
    let status = "serving";
    try {
      inForce = await reload(runtime, source, inForce, log);
    } catch (error) {
      status = `the configuration is refused, and the one before stays in force: ${messageOf(error)}`;
      log.error(status);
    }
    manager.ready(status);
  };
  // one at a time: a reading waits for the one before
  let last = Promise.resolve();
  const lookNext = () => {
    last = last.then(look);
  };
  const timer = setInterval(() => {
    if (signature(source) !== seen) lookNext();
  }, lookEveryMs).unref();
  process.on("SIGHUP", lookNext);
  return {
    close() {
      clearInterval(timer);
      process.off("SIGHUP", lookNext);
    },
  };
}

/** Answers the texts that are in force then. Throws InvalidArgumentError when they are not taken. */
async function reload(
  runtime: Runtime,
  { flags, file }: ConfigSource,
  before: readonly ConfigText[],
  log: Log,
): Promise<readonly ConfigText[]> {
  const texts = readConfigTexts(file ?? defaultConfigFile, file === null, false);
  if (isDeepStrictEqual(texts, before)) {
    log.info("the configuration has been read again, and has not changed");
    return before;
  }
  const [old, now] = [mergeConfigTexts(before), mergeConfigTexts(texts)];
  const config = checkConfig(flags, now);
  const changed = changedNames(settingValues(flags, old), settingValues(flags, now));
  const live = changed.filter(isLive);
  const later = changed.filter((name) => !isLive(name));

  runtime.config = withLive(runtime.config, config);
  Object.assign(runtime.node, await liveSettings(config, runtime.node.features, (sentence) => log.warn(sentence)));
  setLogLevels(log, config.logLevel, config.logAreas);
  try {
    keepTexts(runtime.config.run, texts);
  } catch (error) {
    log.warn(
      `the configuration counts, and could not be kept for a start with one that is refused: ${messageOf(error)}`,
    );
  }
  log.info({ changed: live }, "the configuration has been read again");
  if (later.length > 0)
    log.warn({ changed: later }, "these settings have changed, and count when the agent starts again");
  return texts;
}

function changedNames(old: Record<string, unknown>, now: Record<string, unknown>): string[] {
  const names = [...Object.keys(settings), ...settingTables.map(({ name }) => name)];
  return names.filter((name) => !isDeepStrictEqual(old[name], now[name]));
}

function isLive(name: string): boolean {
  return settings[name as SettingName]?.live ?? settingTables.some((table) => table.name === name);
}

/** Of `now` what is live (settings.ts), of `old` the rest. */
function withLive(old: Config, now: Config): Config {
  const {
    cdiDirectories,
    hooksDirectory,
    writableLimitBytes,
    pinnedImages,
    logLineBytes,
    logRate,
    logLevel,
    logAreas,
  } = now;
  const { rlimits, runtimes, blockio, rdt } = now;
  return Object.freeze({
    ...old,
    ...{ cdiDirectories, hooksDirectory, writableLimitBytes, pinnedImages, logLineBytes, logRate, logLevel, logAreas },
    ...{ rlimits, runtimes, blockio, rdt },
  });
}

/** Changes when a file of the configuration is written, comes or goes. */
function signature({ file }: ConfigSource): string {
  const path = file ?? defaultConfigFile;
  try {
    return [path, join(dirname(path), "config.d"), ...dropIns(path)].map(stamp).join();
  } catch {
    // reading it will say what is wrong
    return "unreadable";
  }
}

function stamp(path: string): string {
  const status = statSync(path, { throwIfNoEntry: false, bigint: true });
  return status === undefined ? "" : `${status.ino}:${status.size}:${status.mtimeNs}`;
}
