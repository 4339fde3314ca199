/** The repository's pages, as a test reads them. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = fileURLToPath(new URL("../../..", import.meta.url));

export interface Page {
  /** from the repository's root */
  readonly path: string;
  readonly text: string;
  /** what stands in `spans`, outside of blocks */
  readonly spans: readonly string[];
  readonly blocks: readonly Block[];
}

export interface Block {
  /** "sh", "toml"; "" for an indented one */
  readonly language: string;
  readonly lines: readonly string[];
}

/** Files below a directory of the repository whose names end so. */
export function filesBelow(directory: string, ...endings: string[]): string[] {
  return readdirSync(join(repository, directory), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
    .map((entry) => relative(repository, join(entry.parentPath ?? entry.path, entry.name)));
}

export function readPages(): Page[] {
  const paths = [
    "README.md",
    "SECURITY.md",
    "CHANGELOG.md",
    ...filesBelow("docs", ".md"),
    ...filesBelow("deploy", ".md"),
  ];
  return [...paths, "test/old-monitor/README.md"].map(readPage);
}

function readPage(path: string): Page {
  const text = readFileSync(join(repository, path), "utf8");
  const blocks: { language: string; lines: string[] }[] = [];
  const prose: string[] = [];
  let fence: string | undefined;
  let indented = false;
  let before = "";
  for (const line of text.split("\n")) {
    const [, indent, language = ""] = /^( *)```(\w*)$/.exec(line) ?? [];
    indented = fence === undefined && (indented ? /^ {4}/ : /^ {4}\S/).test(line) && (indented || before === "");
    if (indent !== undefined) {
      if (fence === undefined) blocks.push({ language, lines: [] });
      fence = fence === undefined ? indent : undefined;
    } else if (fence !== undefined) blocks.at(-1)?.lines.push(line.slice(fence.length));
    else if (indented) {
      if (before === "") blocks.push({ language: "", lines: [] });
      blocks.at(-1)?.lines.push(line.slice(4));
    } else prose.push(line);
    before = line;
  }
  const spans = [...prose.join("\n").matchAll(/`([^`]+)`/g)].map(([, span = ""]) => span.replaceAll(/\s+/g, " "));
  return { path, text, spans, blocks };
}

/** The anchors that GitHub makes of a page's headings. */
export function anchorsOf(text: string): Set<string> {
  const headings = [...text.replaceAll(/^```[\s\S]*?^```/gm, "").matchAll(/^#+ (.+)$/gm)];
  return new Set(
    headings.map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\-_ ]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

/** Links to files of the repository: where from, where to (from the root), and which anchor. */
export function linksOf({ path, text }: Page): { target: string; anchor: string }[] {
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link = ""]) => link)
    .filter((link) => !/^[a-z]+:/.test(link))
    .map((link) => {
      const [file = "", anchor = ""] = link.split("#");
      return { target: file === "" ? path : join(dirname(path), file), anchor };
    });
}

/** A line as a shell would take it apart, up to its first comment or operator; undefined: a quote is open. */
export function wordsOf(line: string): string[] {
  const words: string[] = [];
  let rest = line.trimStart();
  while (rest !== "" && !/^(?:#|&|;|>|\d?>|\||\\$)/.test(rest)) {
    const [word] = /^(?:'[^']*'|"[^"]*"|\$\([^)]*\)|[^\s'";&])+/.exec(rest) ?? [rest];
    words.push(word.replaceAll(/'([^']*)'|"([^"]*)"/g, "$1$2"));
    rest = rest.slice(word.length).trimStart();
  }
  return words;
}
