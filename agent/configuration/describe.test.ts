import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadConfig } from "../config.js";
import { defaultConfigText, settingsTable } from "./describe.js";

const scratch = mkdtempSync(join(tmpdir(), "berth-describe-"));
after(() => rmSync(scratch, { recursive: true }));

function config(text: string) {
  const path = join(scratch, "config.toml");
  writeFileSync(path, text);
  return loadConfig({}, path);
}

test("the default file changes nothing, and neither do its settings with the # taken away", () => {
  const text = defaultConfigText();
  const defaults = config("");
  assert.deepEqual(config(text), defaults);
  // those that follow another setting have no value of their own to write
  const settings = text
    .split("\n")
    .filter((line) => /^#[a-z-]+ = (?!"")/.test(line) && !/^#(path|timeout|nofile)/.test(line));
  const written = settings
    .filter((line) => !/^#(devices|arguments|schemata|throttle)/.test(line))
    .map((line) => line.slice(1))
    .join("\n");
  assert.deepEqual(config(written), defaults);
});

test("the examples of tables in the default file are valid", () => {
  const lines = defaultConfigText().split("\n");
  const tables = lines.slice(lines.findIndex((line) => line.startsWith("#[")));
  const text = tables.filter((line) => !line.startsWith("# ")).map((line) => line.replace(/^#/, ""));
  const { rlimits, runtimes, blockio, rdt } = config(text.join("\n"));
  assert.deepEqual([rlimits.length, runtimes.length, blockio?.size, rdt?.size], [1, 1, 1, 1]);
});

test("the README has the table of settings as it is made from them", () => {
  const readme = readFileSync(fileURLToPath(new URL("../../../README.md", import.meta.url)), "utf8");
  const [, table] = /<!-- settings -->\n([\s\S]*?)\n<!-- end of settings -->/.exec(readme) ?? [];
  assert.equal(table?.trim(), settingsTable(), "berth config default --markdown prints the table that belongs there");
});
