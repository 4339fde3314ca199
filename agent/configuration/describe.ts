/** The settings' table (agent/settings.ts) as people read it. */
import { type Setting, settings, settingTables } from "../settings.js";

/** A configuration file with every setting in it, commented out, with its default. */
export function defaultConfigText(): string {
  const parts = [
    "# Berth's settings. Each has its default here; take the # away to change one.",
    "# Files config.d/*.toml beside this one are read after it, in the order of their names.",
  ];
  for (const [name, setting] of Object.entries(settings)) {
    parts.push(
      ["", ...comment(`${setting.argument}: ${setting.help}.${liveRemark(setting)}`), `#${line(name, setting)}`].join(
        "\n",
      ),
    );
  }
  for (const { help, example } of settingTables) {
    parts.push(["", ...comment(`${help}.`), ...example.map((text) => `#${text}`)].join("\n"));
  }
  return `${parts.join("\n")}\n`;
}

/** Lines of Markdown for the README. */
export function settingsTable(): string {
  const rows = Object.entries(settings).map(([name, setting]) => {
    const fallback = setting.default === null || setting.default === "" ? "–" : `\`${setting.default}\``;
    return `| \`${name}\` | \`${cell(setting.argument)}\` | ${fallback} | ${setting.live ? "at once" : "next start"} | ${cell(setting.help)} |`;
  });
  const tables = settingTables.map(
    ({ name, help, example }) =>
      `| \`[${name}]\` | \`${cell(example.slice(1).join("; "))}\` | – | at once | ${cell(help)} |`,
  );
  return [
    "| setting | value | default | a change counts | what it is |",
    "|---|---|---|---|---|",
    ...rows,
    ...tables,
  ].join("\n");
}

function liveRemark(setting: Setting): string {
  return setting.live ? " Counts at once when it changes." : "";
}

function line(name: string, setting: Setting): string {
  return `${name} = ${setting.number ? setting.default : JSON.stringify(setting.default ?? "")}`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

/** Lines of at most 100 characters that begin with "# ". */
function comment(text: string): string[] {
  const lines: string[] = [];
  let current = "#";
  for (const word of text.split(" ")) {
    if (current.length + word.length > 99) {
      lines.push(current);
      current = "#";
    }
    current += ` ${word}`;
  }
  return [...lines, current];
}
