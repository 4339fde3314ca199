import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { commandManual, configManual } from "../manual.js";
import { completionScript } from "./script.js";

/** What bash would offer for the last of these words. */
async function offers(...words: string[]): Promise<string[]> {
  const ask = `COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _berth; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const script = `${await completionScript("bash")}\n${ask}`;
  const output = execFileSync("/bin/bash", ["-c", script, "bash", ...words], { encoding: "utf8" });
  return output.split("\n").filter(Boolean);
}

test("bash is offered commands, the commands of a group, and options", async () => {
  assert.deepEqual(await offers("berth", "port"), ["port-forward"]);
  assert.deepEqual(await offers("berth", "image", "imp"), ["import"]);
  assert.deepEqual(await offers("berth", "exec", "-"), ["-i", "--stdin", "-t", "--tty", "--socket", "-h", "--help"]);
  assert.deepEqual(await offers("berth", "config", "show", "--or"), ["--origin"]);
  // of what is no command there are none; bash goes on to files
  assert.deepEqual(await offers("berth", "config", "check", "x"), []);
});

const lacks = (path: string) => !existsSync(path) && `${path} is not installed`;

test("fish is offered the same, with what each is for", { skip: lacks("/usr/bin/fish") }, async () => {
  const ask = 'complete -C "berth image imp"; complete -C "berth config show --or"; complete -C "berth port"';
  const home = mkdtempSync(join(tmpdir(), "berth-completion-"));
  try {
    const output = execFileSync("/usr/bin/fish", ["--no-config", "-c", `${await completionScript("fish")}\n${ask}`], {
      encoding: "utf8",
      env: { PATH: "/usr/bin:/bin", HOME: home },
    });
    const words = output.trimEnd().split("\n");
    assert.deepEqual(
      words.map((line) => line.split("\t")[0]),
      ["import", "--origin", "port-forward"],
    );
    assert.ok(words.every((line) => (line.split("\t")[1] ?? "").length > 10));
  } finally {
    rmSync(home, { recursive: true });
  }
});

/** A shell at a terminal, to which words and the key TAB are typed. */
const typing = `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1='NOW''> '; fpath=($1 \\$fpath); autoload -U compinit && compinit -u -D"
zpty -r -m shell said '*NOW> *'
zpty -w -n shell "$2"$'\\t'
zpty -r -m shell said "*$3*"
print -r -- "$said"
`;

test("zsh makes whole words of beginnings", { skip: lacks("/usr/bin/zsh") }, async () => {
  const directory = mkdtempSync(join(tmpdir(), "berth-completion-"));
  try {
    writeFileSync(join(directory, "_berth"), await completionScript("zsh"));
    writeFileSync(join(directory, "typing"), typing);
    for (const [typed, whole] of [
      ["berth image imp", "berth image import "],
      ["berth config show --or", "berth config show --origin "],
      ["berth port", "berth port-forward "],
    ] as const) {
      const output = execFileSync(
        "/usr/bin/zsh",
        ["-f", join(directory, "typing"), directory, typed, whole.slice(-7)],
        {
          encoding: "utf8",
          env: { PATH: "/usr/bin:/bin", HOME: directory, TERM: "dumb" },
          timeout: 60_000,
        },
      );
      assert.ok(output.includes(whole), JSON.stringify(output));
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

const man = "/usr/bin/man";
test("the manual's pages are roff that man does not warn of", {
  skip: lacks(man),
}, async () => {
  for (const [page, shown] of [
    [await commandManual(), /berth image pull .*<IMAGE>/],
    [configManual(), /log-level = /],
  ] as const) {
    const directory = mkdtempSync(join(tmpdir(), "berth-manual-"));
    try {
      const file = join(directory, "page.1");
      writeFileSync(file, page);
      const env = { PATH: "/usr/bin:/bin", LC_ALL: "C", MANWIDTH: "120" };
      const output = execFileSync("/bin/sh", ["-c", 'man --warnings -l "$0" 2>&1 | col -b', file], {
        encoding: "utf8",
        env,
      });
      assert.doesNotMatch(output, /warning|error:/);
      assert.match(output, shown);
    } finally {
      rmSync(directory, { recursive: true });
    }
  }
});
