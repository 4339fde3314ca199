/** The pages, held against the program: what they name of it is there. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, describe, it } from "node:test";
import type { Command, CommanderError } from "commander";
import { commandTree } from "../../agent/cli/commands.js";
import { loadConfig } from "../../agent/config.js";
import { ownersText } from "../../agent/kube/owner-metrics.js";
import { settings } from "../../agent/settings.js";
import { families } from "../../metrics/families.js";
import { berthInstruments, processInstruments } from "../../metrics/instruments.js";
import { anchorsOf, filesBelow, linksOf, type Page, readPages, repository, wordsOf } from "../support/documents.js";

const allPages = readPages();
/** the changelog tells of mistakes, and of what was */
const pages = allPages.filter(({ path }) => path !== "CHANGELOG.md");
const read = (path: string) => readFileSync(join(repository, path), "utf8");
/** "PAGE: WHAT" of each thing that is wrong */
const inPages = (wrongIn: (page: Page) => readonly string[], among = pages) =>
  among.flatMap((page) => wrongIn(page).map((what) => `${page.path}: ${what}`));

describe("the pages", () => {
  it("link to what is there", () => {
    const isThere = (target: string, anchor: string) =>
      existsSync(join(repository, target)) && (anchor === "" || anchorsOf(read(target)).has(anchor));
    const wrong = inPages(
      (page) =>
        linksOf(page)
          .filter(({ target, anchor }) => !isThere(target, anchor))
          .map(({ target, anchor }) => `${target}#${anchor}`),
      allPages,
    );
    assert.deepEqual(wrong, []);
  });

  it("have command lines that berth takes", async () => {
    const tree = await commandTree(null);
    // parsed, and not done
    for (const command of [tree, ...tree.commands, ...tree.commands.flatMap(({ commands }) => commands)]) {
      command.exitOverride().configureOutput({ writeErr: () => undefined, writeOut: () => undefined });
      if (command.commands.length === 0) command.action(() => undefined);
    }
    let count = 0;
    const refused = async (line: string, isProse: boolean) => {
      count++;
      const words = wordsOf(line).slice(1);
      const code = await parsed(tree, words);
      // in a sentence a command may be named without what it takes
      const isName = isProse && /^commander\.(?:help|missing)/.test(code);
      return code === "" || isName ? [] : [`${line} (${code})`];
    };
    const wrong: string[] = [];
    for (const { path, spans, blocks } of pages) {
      const typed = blocks.flatMap(({ lines }) => joined(lines).flatMap(berthCommands));
      const named = spans.flatMap(berthCommands).flatMap(withoutBrackets);
      for (const line of typed) wrong.push(...(await refused(line, false)).map((what) => `${path}: ${what}`));
      for (const line of named) wrong.push(...(await refused(line, true)).map((what) => `${path}: ${what}`));
    }
    // where the package has it
    for (const path of filesBelow("deploy", ".service")) {
      const lines = read(path).match(/(?<=ExecStart=\/usr\/bin\/)berth .*/g) ?? [];
      for (const line of lines) wrong.push(...(await refused(line, false)).map((what) => `${path}: ${what}`));
      assert.notEqual(lines.length, 0, path);
    }
    assert.deepEqual(wrong, []);
    assert.ok(count > 200, `${count} were found`);
  });

  describe("settings", () => {
    const scratch = mkdtempSync(join(tmpdir(), "berth-documents-"));
    after(() => rmSync(scratch, { recursive: true }));
    const refusal = (text: string) => {
      const path = join(scratch, "config.toml");
      writeFileSync(path, text);
      try {
        loadConfig({}, path);
        return [];
      } catch (error) {
        return [`${text}: ${(error as Error).message}`];
      }
    };

    it("as in config.toml are taken", () => {
      const isSetting = (text: string) => Object.keys(settings).some((name) => text.startsWith(`${name} = `));
      const wrong = inPages(({ spans, blocks }) => [
        ...spans.filter((span) => isSetting(span) && !span.includes('"...')).flatMap(refusal),
        ...blocks
          .map(({ lines }) => lines.join("\n"))
          .filter((text) => isSetting(text) || /^\[+(?:rlimits|runtimes|blockio|rdt)\b/.test(text))
          .flatMap(refusal),
      ]);
      assert.deepEqual(wrong, []);
    });
  });

  it("name metrics that are there", () => {
    const instruments = [...families, ...Object.values(berthInstruments), ...Object.values(processInstruments)];
    const names = new Set([...instruments.map(({ name }) => name), /^# TYPE (\w+)/m.exec(ownersText([]))?.[1]]);
    const isThere = (name: string) => names.has(name) || names.has(name.replace(/_(?:bucket|sum|count)$/, ""));
    const paths = [
      ...pages.map(({ path }) => path),
      ...filesBelow("deploy/prometheus", ".yml"),
      "deploy/grafana/berth.json",
    ];
    const wrong = paths.flatMap((path) =>
      metricsIn(read(path))
        .filter((name) => !isThere(name))
        .map((name) => `${path}: ${name}`),
    );
    assert.deepEqual(wrong, []);
  });

  it("name files that are there", () => {
    const folders = ["agent", "cri-proto", "deploy", "docs", "metrics", "native", "sandbox", "test"];
    const files = folders.flatMap((folder) => filesBelow(folder, ""));
    const names = new Set(files.map((path) => basename(path)));
    const whole = new RegExp(`^(?:${folders.join("|")})/[\\w./*-]+$`);
    const isThere = (span: string) => {
      if (whole.test(span)) {
        const pattern = new RegExp(
          `^${span.replaceAll(".", "\\.").replaceAll("*", "[^/]*").replace(/\/$/, "/.*")}(?:$|[./])`,
        );
        return files.some((path) => pattern.test(path));
      }
      return !/^[\w/-]+\.(?:ts|cc|proto|mjs)$/.test(span) || names.has(basename(span));
    };
    assert.deepEqual(
      inPages(({ spans }) => spans.filter((span) => !isThere(span))),
      [],
    );
  });

  it("name variables and parts of files that are there", () => {
    const sources = ["agent", "native", "sandbox", "test"].flatMap((folder) =>
      filesBelow(folder, ".ts", ".mjs", ".cc", ".h"),
    );
    const all = sources.map(read).join("\n");
    const wrong = inPages(({ text }) => [
      ...[...text.matchAll(/\bBERTH_[A-Z_]+[A-Z]\b/g)].map(([name]) => name).filter((name) => !all.includes(name)),
      // `set_labels` in `native/monitor/identity.cc`
      ...[...text.matchAll(/`(\w+)`\s+in\s+`([\w/-]+\.(?:cc|ts))`/g)]
        .filter(([, part = "", file = ""]) => {
          const found = sources.filter((path) => path.endsWith(file)).map(read);
          return !found.some((source) => source.includes(part));
        })
        .map(([whole]) => whole),
    ]);
    assert.deepEqual(wrong, []);
  });

  it("name messages and npm scripts that are there", () => {
    const protos = { runtime: read("cri-proto/runtime.proto"), berth: read("cri-proto/admin.proto") };
    const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
    const wrong = inPages(({ text }) => [
      ...[...text.matchAll(/\b(runtime|berth)\.v1\.(\w+)/g)]
        .filter(([, proto, name]) => !new RegExp(`^(?:message|service) ${name} `, "m").test(protos[proto as "berth"]))
        .map(([whole]) => whole),
      ...[...text.matchAll(/\bnpm run ([\w:-]+)/g)].map(([, name = ""]) => name).filter((name) => !(name in scripts)),
    ]);
    assert.deepEqual(wrong, []);
  });

  it("SECURITY.md has the attacks that are tested", () => {
    const told = new Set(read("SECURITY.md").match(/CVE-\d+-\d+/g));
    const rows = [...read("SECURITY.md").matchAll(/^\| (CVE-\d+-\d+)/gm)].map(([, name = ""]) => name.toLowerCase());
    const tested = filesBelow("test/security", ".test.ts").flatMap(
      (path) => basename(path).match(/^cve-[\d-]+\d/) ?? [],
    );
    assert.deepEqual(
      tested.filter((name) => !told.has(name.toUpperCase())),
      [],
    );
    assert.deepEqual(
      rows.filter((name) => !tested.includes(name)),
      [],
    );
    assert.ok(tested.length > 30);
  });
});

/** The error's code; "" when the words are a command with all that it takes. */
async function parsed(tree: Command, words: readonly string[]): Promise<string> {
  try {
    await tree.parseAsync(words, { from: "user" });
    return "";
  } catch (error) {
    const { code } = error as CommanderError;
    return ["commander.helpDisplayed", "commander.version"].includes(code) ? "" : String(code);
  }
}

/** A line that begins with an option, and one after a backslash, belong to the line before. */
function joined(lines: readonly string[]): string[] {
  const whole: string[] = [];
  for (const line of lines) {
    const last = whole.at(-1);
    const goesOn = last !== undefined && (last.endsWith("\\") || /^\s+--/.test(line));
    if (goesOn) whole[whole.length - 1] = `${last.replace(/ +#.*|\\$/, "")} ${line.trim()}`;
    else whole.push(line);
  }
  return whole;
}

/** Those of a line of shell, or of a span. "berth serve ..." goes on as the reader likes. */
function berthCommands(text: string): string[] {
  return [...text.matchAll(/(?:^|[;|&(] *|# |\bnpx |\bxargs -n1 )(berth [a-z-][^;]*)/g)]
    .map(([, line = ""]) => line.replace(/ (?:\.\.\.|…)(?= |$)/, ""))
    .filter((line) => !line.startsWith("berth is"));
}

/** "logs [-f] CONTAINER" with and without what is in the brackets; "bash|zsh" one by one. */
function withoutBrackets(line: string): string[] {
  const lines = [line.replaceAll(/ \[[^\]]*\]/g, ""), line.replaceAll(/[[\]]/g, "")];
  const [choice] = /\S+\|\S+/.exec(line) ?? [];
  return choice === undefined ? [...new Set(lines)] : choice.split("|").map((word) => line.replace(choice, word));
}

/** Names in a text; not those of cAdvisor's which it says are not here, and neither files nor nftables' tables. */
function metricsIn(text: string): string[] {
  const told = text.replace(/Of cAdvisor's names these are not here[\s\S]*?\. /, "");
  const names = told.match(/(?<![\w:]|inet )(?:berth|container|process|nodejs)_[a-z0-9_]*[a-z0-9](?![\w*]|_\*|\.\w)/g);
  return [...new Set(names)];
}
