import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { InvalidArgumentError } from "../../errors.js";
import { ConfigurationDirectory, parseConfiguration } from "./configuration.js";

const list = (more: object = {}) =>
  JSON.stringify({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "bridge" }], ...more });

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "berth-cni-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

test("a list, and the single plugin of the older files as a list of one", () => {
  const network = parseConfiguration(list({ plugins: [{ type: "bridge" }, { type: "portmap" }], disableCheck: true }));
  assert.deepEqual(
    [network.name, network.cniVersion, network.plugins.map(({ type }) => type), network.disableCheck],
    ["net", "1.0.0", ["bridge", "portmap"], true],
  );
  const single = parseConfiguration('{"cniVersion":"0.3.1","name":"old","type":"macvlan","master":"eth1"}');
  assert.deepEqual([single.name, single.cniVersion, single.plugins[0]?.master], ["old", "0.3.1", "eth1"]);
  assert.equal(parseConfiguration(single.text).plugins[0]?.type, "macvlan");
});

test("the newest version that the file names and that is known here counts", () => {
  const versionOf = (more: object) => parseConfiguration(list(more)).cniVersion;
  assert.equal(versionOf({ cniVersion: "0.4.0", cniVersions: ["1.1.0", "9.0.0", "1.0.0"] }), "1.1.0");
  assert.equal(versionOf({ cniVersion: undefined }), "0.1.0");
  assert.equal(versionOf({ cniVersion: "" }), "0.1.0");
  assert.equal(versionOf({ cniVersion: undefined, cniVersions: ["0.3.1", "1.1.0"] }), "1.1.0");
  assert.throws(() => versionOf({ cniVersion: 1 }), /"cniVersion" is 1; known are/);
  assert.throws(() => versionOf({ cniVersion: "2.0.0" }), /"cniVersion" is "2.0.0"; known are 0\.1\.0/);
});

for (const [what, text, sentence] of [
  ["nothing", "  \n", /it is empty/],
  ["half a file", '{"name": "net", "plug', /it is no JSON/],
  ["a list of things", "[]", /no JSON object/],
  ["neither list nor plugin", '{"name":"net"}', /neither "plugins" nor "type"/],
  ["no plugins", list({ plugins: [] }), /"plugins" is empty/],
  ["a plugin without a type", list({ plugins: [{ type: "bridge" }, {}] }), /plugins\[1\]\.type is undefined/],
  ["a plugin that is a path", list({ plugins: [{ type: "../../bin/sh" }] }), /names no plugin/],
  ["a name that is a path", list({ name: "../x" }), /"name" is "\.\.\/x"/],
  ["a name that no file could have", list({ name: "n".repeat(181) }), /"name" is longer than 180/],
  ["no name", list({ name: undefined }), /"name" is undefined/],
  ["odd capabilities", list({ plugins: [{ type: "x", capabilities: { dns: "yes" } }] }), /plugins\[0\]\.capabilities/],
  ["an odd flag", list({ disableCheck: "perhaps" }), /neither true nor false/],
] as const) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => parseConfiguration(text),
      (error) => error instanceof InvalidArgumentError && sentence.test(error.message),
    );
  });
}

test("the directory's first file counts, and is read again when it has changed", (t) => {
  const path = directory(t);
  const cni = new ConfigurationDirectory(path);
  const now = () => {
    const found = cni.current();
    return "network" in found ? found.network.name : found.problem;
  };
  assert.match(now(), /no CNI network configuration in/);
  writeFileSync(join(path, "README"), "no network");
  writeFileSync(join(path, "20-b.conflist"), list({ name: "b" }));
  assert.equal(now(), "b");
  const first = cni.current();
  assert.equal(cni.current(), first, "nothing has changed: it is not parsed again");
  writeFileSync(join(path, "10-a.conf"), '{"cniVersion":"0.4.0","name":"a","type":"ptp"}');
  assert.equal(now(), "a");
  // an installer that does not rename: nobody falls to the next network meanwhile
  writeFileSync(join(path, "10-a.conf"), '{"cniVersion":"0.4');
  assert.match(now(), /10-a\.conf: it is no JSON/);
  writeFileSync(join(path, ".new"), '{"cniVersion":"0.4.0","name":"a2","type":"ptp"}');
  renameSync(join(path, ".new"), join(path, "10-a.conf"));
  assert.equal(now(), "a2");
  rmSync(join(path, "10-a.conf"));
  assert.equal(now(), "b");
});

test("a directory that is not there has no configuration", () => {
  assert.deepEqual(new ConfigurationDirectory("/nowhere/net.d").current(), {
    problem: "there is no CNI network configuration in /nowhere/net.d",
    file: "none",
  });
});

test("one that cannot be read may have one, and shows none", (t) => {
  const path = join(directory(t), "loop");
  symlinkSync(path, path);
  const configurations = new ConfigurationDirectory(path);
  assert.match(JSON.stringify(configurations.current()), /ELOOP.*"unknown"/);
  assert.deepEqual([configurations.hasFile, configurations.showsFile], [true, false]);
});

test("a file may begin with a byte order mark, end its lines as Windows does, and say a thing twice: the last counts", () => {
  const text = list().replaceAll(",", ",\r\n").replace("{", '{"name": "first",');
  assert.equal(parseConfiguration(`\uFEFF${text}\r\n`).name, "net");
});

for (const [what, make, sentence] of [
  ["a directory", (path: string) => mkdirSync(path), /no regular file/],
  ["a fifo", (path: string) => void execFileSync("mkfifo", [path]), /no regular file/],
  ["a link to itself", (path: string) => symlinkSync(path, path), /ELOOP/],
  ["a link to nothing", (path: string) => symlinkSync("/nowhere/10.conflist", path), /ENOENT/],
  ["a device", (path: string) => symlinkSync("/dev/zero", path), /no regular file/],
  ["ten megabytes", (path: string) => writeFileSync(path, " ".repeat(10 << 20)), /larger than/],
  ["a hundred thousand lists in each other", (path: string) => writeFileSync(path, "[".repeat(100_000)), /no JSON/],
] as const) {
  test(`${what} in the place of the first file is told, and the next file does not count`, (t) => {
    const path = directory(t);
    make(join(path, "10-a.conflist"));
    writeFileSync(join(path, "20-b.conflist"), list());
    const found = new ConfigurationDirectory(path).current();
    assert.match("problem" in found ? found.problem : "", sentence);
    assert.match("problem" in found ? found.problem : "", /10-a\.conflist: /);
  });
}

test("the name alone decides which file is the first, not the kind of file", (t) => {
  const path = directory(t);
  const names = ["10-b.json", "10-b.conflist", "10-b.conf"] as const;
  for (const name of names) {
    const single = JSON.stringify({ cniVersion: "1.0.0", name, type: "ptp" });
    writeFileSync(join(path, name), name.endsWith("list") ? list({ name }) : single);
    const found = new ConfigurationDirectory(path).current();
    assert.equal("network" in found && found.network.name, [...names].slice(0, names.indexOf(name) + 1).sort()[0]);
  }
});

test("further plugins of a network stand in a directory of its name, unless the list forbids it", (t) => {
  const path = directory(t);
  const cni = new ConfigurationDirectory(path);
  const types = () => {
    const found = cni.current();
    return "network" in found ? found.network.plugins.map(({ type }) => type) : found.problem;
  };
  writeFileSync(join(path, "10-net.conflist"), list());
  assert.deepEqual(types(), ["bridge"]);
  mkdirSync(join(path, "net"));
  writeFileSync(join(path, "net", "20-b.conf"), '{"type": "bandwidth"}');
  writeFileSync(join(path, "net", "10-a.conf"), '{"type": "portmap"}');
  assert.deepEqual(types(), ["bridge", "portmap", "bandwidth"]);
  const found = cni.current();
  assert.ok("network" in found);
  // what is kept with a pod says all, also when the files have gone
  assert.deepEqual(parseConfiguration(found.network.text).plugins.length, 3);
  writeFileSync(join(path, "net", "20-b.conf"), '{"type"');
  assert.match(String(types()), /10-net\.conflist: .*net\/20-b\.conf: it is no JSON/);
  rmSync(join(path, "net", "20-b.conf"));
  assert.deepEqual(types(), ["bridge", "portmap"]);
  writeFileSync(join(path, "10-net.conflist"), list({ loadOnlyInlinedPlugins: true }));
  assert.deepEqual(types(), ["bridge"]);
});
