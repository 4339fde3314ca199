import type { Command } from "commander";
import { defaultConfigFile, type SettingName, settings } from "../settings.js";

/** `berth serve`: an option for each setting; what is not given comes from the configuration file. */
export function addTo(parent: Command): void {
  const command = parent.command("serve").description("run the agent until SIGTERM; pods run on after it");
  command.option(
    "--config <FILE>",
    `settings in TOML, by the same names (default: ${defaultConfigFile}, if it is there)`,
  );
  for (const [name, setting] of Object.entries(settings)) {
    const fallback = setting.default === null ? "" : ` (default: ${setting.default})`;
    command.option(`--${name} <${setting.argument}>`, `${setting.help}${fallback}`);
  }
  command.action(serve);
}

async function serve(_options: unknown, command: Command): Promise<void> {
  const written: Partial<Record<SettingName, string>> = {};
  for (const name of Object.keys(settings) as SettingName[]) {
    const value: unknown = command.getOptionValue(camelCase(name));
    if (typeof value === "string") written[name] = value;
  }
  const file: unknown = command.getOptionValue("config");
  const { loadStartConfig } = await import("../configuration/in-force.js");
  const source = { flags: written, file: typeof file === "string" ? file : null };
  const start = loadStartConfig(source.flags, source.file);
  const { runAgent } = await import("../main.js");
  await runAgent(start, source);
}

/** commander's own spelling of a flag as a property */
function camelCase(flag: string): string {
  return flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}
