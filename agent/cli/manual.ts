/** The manual's pages in roff (man(7)), made of the command line's tree and of the settings' table. */
import { defaultConfigFile, settings, settingTables } from "../settings.js";
import { runtimeVersion } from "../version.js";
import { commandTree } from "./commands.js";
import { allNodes, type TreeNode, type TreeOption, treeOf } from "./completions/tree.js";

/** berth(1) */
export async function commandManual(): Promise<string> {
  const root = treeOf(await commandTree(null));
  const commands = allNodes(root).filter((node) => node.path !== "" && node.children.length === 0);
  return page("BERTH", 1, [
    ".SH NAME",
    `berth \\- ${text(lowerFirst(root.description))}`,
    ".SH SYNOPSIS",
    ".B berth",
    ".I COMMAND",
    text("[OPTIONS] [ARGUMENTS]"),
    ".SH DESCRIPTION",
    text(
      "Berth answers the kubelet's calls (the CRI) and makes pods of namespaces, cgroups and overlay mounts by itself.",
    ),
    ".B berth serve",
    "is the agent; the other commands ask it over its socket, or look at its files.",
    ".SH COMMANDS",
    ...commands.flatMap(commandPart),
    ".SH EXIT STATUS",
    ...tagged("0", "done"),
    ...tagged(
      "1",
      "it failed, with a sentence on standard error; or something was found that should not be (doctor, leaks, check, gc)",
    ),
    ...tagged("2", "the command line is wrong"),
    ...tagged("3", "no agent answers"),
    ...tagged("4", "there is no such pod, container or image"),
    ...tagged("5", "what it is about is not in a state for it"),
    ...tagged("6", "it took too long"),
    ".B berth exec, attach",
    "and",
    ".B run",
    "end with the program's own, or with 125 when Berth failed.",
    ".SH ENVIRONMENT",
    ...tagged("BERTH_SOCKET", "the agent's CRI socket, where \\-\\-socket is not given"),
    ...tagged("NO_COLOR", "when it is set, and not empty, nothing is coloured"),
    ".SH FILES",
    ...tagged(defaultConfigFile, "the settings; see berth\\-config.toml(5)"),
    ...tagged("/run/berth/berth.sock", "the CRI socket, for root"),
    ...tagged("/var/lib/berth", "pods, containers, images, layers"),
    ".SH SEE ALSO",
    ".BR berth\\-config.toml (5),",
    "/usr/share/doc/berth",
  ]);
}

/** berth-config.toml(5) */
export function configManual(): string {
  return page("BERTH-CONFIG.TOML", 5, [
    ".SH NAME",
    "berth\\-config.toml \\- the settings of berth serve",
    ".SH DESCRIPTION",
    `.I ${text(defaultConfigFile)}`,
    text(
      "is TOML. Files config.d/*.toml beside it are read after it, in the order of their names. A flag of berth serve wins " +
        "over the files. berth config check says what is wrong in them, berth config show --origin what counts and why. " +
        "SIGHUP, or a change of a file, has them read again.",
    ),
    ".SH SETTINGS",
    ...Object.entries(settings).flatMap(([name, setting]) => {
      const fallback = setting.default === null || setting.default === "" ? "" : ` Default: ${setting.default}.`;
      const live = setting.live ? " A change counts at once." : "";
      return tagged(`${name} = ${setting.argument}`, text(`${setting.help}.${fallback}${live}`));
    }),
    ".SH TABLES",
    ...settingTables.flatMap(({ name, help, example }) => [
      ...tagged(`[${name}]`, text(`${help}. A change counts at once.`)),
      ".IP",
      ".EX",
      ...example.map(text),
      ".EE",
    ]),
    ".SH SEE ALSO",
    ".BR berth (1)",
  ]);
}

function commandPart(node: TreeNode): string[] {
  const usage = [...node.arguments.map((argument) => argument.usage), node.options.length > 0 ? "[OPTIONS]" : ""];
  return [
    `.SS "berth ${text([node.path, ...usage].filter(Boolean).join(" "))}"`,
    text(`${upperFirst(node.description)}.`),
    ...node.arguments
      .filter((argument) => argument.description !== "")
      .flatMap((argument) => tagged(argument.usage, text(argument.description))),
    ...node.options.flatMap((option) => tagged(option.flags, text(described(option)))),
  ];
}

function described({ description, fallback }: TreeOption): string {
  const isTold = fallback === undefined || fallback === false || description.includes("(default");
  return isTold ? description : `${description} (default: ${String(fallback)})`;
}

function page(name: string, section: number, lines: readonly string[]): string {
  return `${[`.TH ${text(name)} ${section} "" "Berth ${runtimeVersion}"`, ...lines].join("\n")}\n`;
}

function tagged(tag: string, body: string): string[] {
  return [".TP", `.B ${text(tag)}`, body];
}

function lowerFirst(words: string): string {
  return words.charAt(0).toLowerCase() + words.slice(1);
}

function upperFirst(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A line that begins with a dot or an apostrophe would be a request; a hyphen would be set as a dash. */
function text(words: string): string {
  const escaped = words.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll('"', "\\(dq");
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}
