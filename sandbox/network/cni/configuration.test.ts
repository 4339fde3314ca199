import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
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
    missing: true,
  });
});
