import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { loadConfig } from "../config.js";
import { mergeConfigTexts, readConfigTexts } from "./files.js";
import { keepTexts, loadStartConfig } from "./in-force.js";
import { lineOf } from "./lines.js";

const scratch = mkdtempSync(join(tmpdir(), "berth-config-files-"));
const file = join(scratch, "config.toml");
after(() => rmSync(scratch, { recursive: true }));
beforeEach(() => rmSync(join(scratch, "config.d"), { recursive: true, force: true }));

function write(main: string, dropIns: Record<string, string> = {}): void {
  writeFileSync(file, main);
  mkdirSync(join(scratch, "config.d"), { recursive: true });
  for (const [name, text] of Object.entries(dropIns)) writeFileSync(join(scratch, "config.d", name), text);
}

test("drop-ins count after the file, in the order of their names; tables are put together", () => {
  write('bridge = "br1"\nlog-rate = 1\n[rlimits]\nnofile = "1"\ncore = "0"\n', {
    "20.toml": 'bridge = "br3"\n',
    "10.toml": 'bridge = "br2"\nlog-level = "warn"\n[rlimits]\nnofile = "2"\n',
    "30.toml.bak": 'bridge = "br4"\n',
    ".31.toml": 'bridge = "br5"\n',
  });
  const config = loadConfig({}, file);
  assert.equal(config.bridge, "br3");
  assert.equal(config.logLevel, "warn");
  assert.equal(config.logRate, 1);
  assert.deepEqual(config.rlimits, [
    { type: "RLIMIT_NOFILE", soft: 2, hard: 2 },
    { type: "RLIMIT_CORE", soft: 0, hard: 0 },
  ]);
  const { placeOf } = mergeConfigTexts(readConfigTexts(file, false));
  assert.equal(placeOf(["bridge"]), `${scratch}/config.d/20.toml:1`);
  assert.equal(placeOf(["log-rate"]), `${file}:2`);
  assert.equal(placeOf(["rlimits", "nofile"]), `${scratch}/config.d/10.toml:4`);
  assert.equal(placeOf(["rlimits", "core"]), `${file}:5`);
  assert.equal(placeOf(["subnet"]), undefined);
});

test("a drop-in that is no regular file is refused, and not waited for", () => {
  write("");
  execFileSync("mkfifo", [join(scratch, "config.d", "10.toml")]);
  assert.throws(() => readConfigTexts(file, false), /cannot be read: .*10\.toml is no regular file/);
});

test("the file itself may be a pipe at the start alone, and is named when it cannot be one", () => {
  const place = join(scratch, "odd");
  mkdirSync(place);
  assert.throws(() => readConfigTexts(place, true), /cannot be read: .*odd is no regular file/);
  rmSync(place, { recursive: true });
  execFileSync("mkfifo", [place]);
  assert.throws(() => readConfigTexts(place, true, false), /cannot be read: .*odd is no regular file/);
  spawn("sh", ["-c", `echo 'bridge = "br9"' > ${place}`]);
  assert.equal(readConfigTexts(place, true)[0]?.text, 'bridge = "br9"\n');
  rmSync(place);
  writeFileSync(place, "");
  truncateSync(place, 20 << 20);
  assert.throws(() => readConfigTexts(place, true), /odd is larger than/);
  assert.deepEqual(readConfigTexts("/dev/null", true, false)[0], { path: "/dev/null", text: "" });
});

test("everything that is wrong is said at once, each with its file and line, and what may be meant", () => {
  write('# a comment\nbrigde = "br1"\n\nlog-rate = "fast"\n', {
    "10.toml": '[runtimes.runc]\npath = "/usr/sbin/runc"\ntimeout = 0\n[rlimits]\nnofile = "x"\n',
  });
  assert.throws(
    () => loadConfig({}, file),
    (error: Error) => {
      assert.deepEqual(
        error.message.split("\n").sort(),
        [
          `${file}:2: there is no setting "brigde"; "bridge" may be meant`,
          `${file}:4: log-rate "fast" is not a number from 0 to 9007199254740991`,
          `${scratch}/config.d/10.toml:3: runtimes.runc.timeout 0 is less than a second`,
          `${scratch}/config.d/10.toml:5: rlimits.nofile "x" is not SOFT:HARD, as "1024:4096"`,
        ].sort(),
      );
      return true;
    },
  );
});

test("a drop-in that is no TOML is named with its line", () => {
  write("", { "10.toml": "a = 1\nb = = 2\n" });
  assert.throws(() => loadConfig({}, file), /config\.d\/10\.toml:2:\d+: /);
});

test("the line of a key: values of several lines, comments before, tables in tables, what is not there", () => {
  const text = 'a = 1\n\n# of b\nb = [\n  1,\n  2,\n]\n[c]\nd = """\nx\n"""\n[[e.f]]\ng = 1\n';
  assert.equal(lineOf(text, ["a"]), 1);
  assert.equal(lineOf(text, ["b"]), 4);
  assert.equal(lineOf(text, ["c"]), 8);
  assert.equal(lineOf(text, ["c", "d"]), 9);
  assert.equal(lineOf(text, ["c", "z"]), 8);
  assert.equal(lineOf(text, ["e", "f"]), 12);
  assert.equal(lineOf(text, ["z"]), 1);
});

test("an agent that starts again with broken files takes those of before; without any, or with wrong flags, it does not", () => {
  const run = mkdtempSync(join(scratch, "run-"));
  write('bridge = "br7"\n');
  const first = loadStartConfig({ run }, file);
  assert.equal(first.refused, null);
  write("bridge = [\n");
  assert.throws(() => loadStartConfig({ run }, file), /config\.toml:/);
  keepTexts(run, first.texts);
  const second = loadStartConfig({ run }, file);
  assert.equal(second.config.bridge, "br7");
  assert.match(second.refused ?? "", /config\.toml:/);
  assert.throws(() => loadStartConfig({ run, metrics: "nowhere" }, file));
});
