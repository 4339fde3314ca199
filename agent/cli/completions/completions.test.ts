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
  assert.deepEqual(await offers("berth", "exec", "-"), [
    "-i",
    "--stdin",
    "-t",
    "--tty",
    "--socket",
    "--json",
    "-h",
    "--help",
  ]);
  assert.deepEqual(await offers("berth", "config", "show", "--or"), ["--origin"]);
  // of what is no command there are none; bash goes on to files
  assert.deepEqual(await offers("berth", "config", "check", "x"), []);
});

for (const shell of ["zsh", "fish"] as const) {
  const path = `/usr/bin/${shell}`;
  test(`${shell} can read its script`, { skip: !existsSync(path) && `${path} is not installed` }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "berth-completion-"));
    try {
      writeFileSync(join(directory, "script"), await completionScript(shell));
      execFileSync(path, ["-n", join(directory, "script")]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

const man = "/usr/bin/man";
test("the manual's pages are roff that man does not warn of", {
  skip: !existsSync(man) && `${man} is not installed`,
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
