import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { defaultConfigFile } from "../settings.js";
import { printJson, printTable } from "./output.js";

/** `berth config ...`: needs no agent. */
export function addTo(parent: Command): void {
  const file = ["--config <FILE>", `the configuration file (default: ${defaultConfigFile}, if it is there)`] as const;
  parent
    .command("default")
    .description("print a configuration file with every setting, its meaning and its default")
    .option("--markdown", "as a table, for a document")
    .action(printDefault);
  parent
    .command("check")
    .argument("[FILE]", `the configuration file; its drop-ins are checked, too (default: ${defaultConfigFile})`)
    .description("say what is wrong in the configuration; ends with 1 when something is")
    .action(check);
  parent
    .command("show")
    .description("print what counts of each setting")
    .option(...file)
    .option("--origin", "tell also where each comes from")
    .option("--json", "print JSON")
    .action(show);
  for (const [name, what] of [
    ["from-containerd", "containerd's config.toml (versions 1 to 3)"],
    ["from-crio", "CRI-O's crio.conf"],
  ] as const) {
    parent
      .command(name)
      .argument("<FILE...>", `${what}; of several, as in a conf.d directory, the later ones win`)
      .description(`print Berth's settings for those of ${what}, and what of them has no equal`)
      .action((paths: string[]) => translate(name, paths));
  }
}

async function printDefault({ markdown }: { markdown?: boolean }): Promise<void> {
  const { defaultConfigText, settingsTable } = await import("../configuration/describe.js");
  process.stdout.write(markdown ? `${settingsTable()}\n` : defaultConfigText());
}

async function check(path?: string): Promise<void> {
  const [{ checkConfig }, { mergeConfigTexts, readConfigTexts }] = await configModules();
  const texts = readConfigTexts(path ?? defaultConfigFile, path === undefined);
  checkConfig({}, mergeConfigTexts(texts));
  const sentence =
    texts.length === 0
      ? `${defaultConfigFile} is not there: every setting has its default`
      : `${texts.map((text) => text.path).join(", ")}: nothing is wrong`;
  process.stdout.write(`${sentence}\n`);
}

interface ShowOptions {
  config?: string;
  origin?: boolean;
  json?: boolean;
}

async function show({ config, origin, json }: ShowOptions): Promise<void> {
  const [{ checkConfig, settingValues }, { mergeConfigTexts, readConfigTexts }] = await configModules();
  const written = mergeConfigTexts(readConfigTexts(config ?? defaultConfigFile, config === undefined));
  checkConfig({}, written);
  const rows = Object.entries(settingValues({}, written)).map(([name, value]) => ({
    name,
    value,
    origin: written.placeOf([name]) ?? "default",
  }));
  if (json) {
    const values = rows.map((row) => [row.name, origin ? { value: row.value, origin: row.origin } : row.value]);
    printJson(Object.fromEntries(values));
    return;
  }
  const cells = rows.map((row) => [row.name, JSON.stringify(row.value), ...(origin ? [row.origin] : [])]);
  printTable(["SETTING", "VALUE", ...(origin ? ["ORIGIN"] : [])], cells);
}

async function translate(from: "from-containerd" | "from-crio", paths: readonly string[]): Promise<void> {
  const { translateContainerd, translateCrio, translationText } = await import("../configuration/translate.js");
  const files = paths.map((path) => ({ path, text: readFileSync(path, "utf8") }));
  const translation = from === "from-containerd" ? translateContainerd(files) : translateCrio(files);
  process.stdout.write(translationText(translation, files));
}

function configModules() {
  return Promise.all([import("../config.js"), import("../configuration/files.js")]);
}
