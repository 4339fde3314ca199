import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FailedPreconditionError } from "../errors.js";
import { containerConfig, podConfig } from "../spec/spec-fixtures.js";
import { chosenClass, findClass } from "./annotations.js";
import { toBlockIo } from "./blockio.js";
import { isRdtClassName, Rdt } from "./rdt.js";

const directory = mkdtempSync(join(tmpdir(), "berth-classes-"));
after(() => rmSync(directory, { recursive: true }));

test("the container's annotation, then the pod's for the container, then the pod's", () => {
  const own = { annotations: { "io.kubernetes.cri.rdt-class": "own" } };
  const pod = podConfig({
    annotations: {
      "rdt.resources.beta.kubernetes.io/pod": "pod",
      "rdt.resources.beta.kubernetes.io/container.one": "one",
      "rdt.resources.beta.kubernetes.io/container.two": "",
    },
  });
  const chosen = (name: string, more = {}) =>
    chosenClass("rdt", containerConfig({ metadata: { name }, ...more }), pod)?.name;
  assert.equal(chosen("one", own), "own");
  assert.equal(chosen("one"), "one");
  assert.equal(chosen("two"), "pod");
  assert.equal(chosen("three"), "pod");
  assert.equal(chosenClass("blockio", containerConfig({ metadata: { name: "one" }, ...own }), pod), undefined);
});

test("a class that is not there is named, with the annotation", () => {
  const chosen = { name: "gold", annotation: "blockio.resources.beta.kubernetes.io/pod" };
  const refused = (message: RegExp) => ({ constructor: FailedPreconditionError, message });
  const unconfigured = /blockio\.resources\.beta\.kubernetes\.io\/pod: the class "gold" .*no table \[blockio\]/;
  assert.throws(() => findClass("blockio", chosen, null), refused(unconfigured));
  const classes = new Map([
    ["low", 1],
    ["high", 2],
  ]);
  assert.throws(() => findClass("blockio", chosen, classes), refused(/"gold" is none of those .*\(low, high\)/));
  assert.equal(findClass("blockio", { ...chosen, name: "high" }, classes), 2);
});

test("block IO: all devices' weight, each device's own, the later rule of two", async () => {
  const devices: Record<string, { major: number; minor: number }[]> = {
    "/dev/sd*": [
      { major: 8, minor: 0 },
      { major: 8, minor: 16 },
    ],
    "/dev/sdb": [{ major: 8, minor: 16 }],
  };
  const unmatched: string[] = [];
  const rules = [
    { devices: [], weight: 80 },
    { devices: ["/dev/sd*", "/dev/none"], weight: 20, readBytes: 1000, writeOperations: 5 },
    { devices: ["/dev/sdb"], readBytes: 9000 },
  ];
  const blockIO = await toBlockIo(
    rules,
    (pattern) => unmatched.push(pattern),
    async (pattern) => devices[pattern] ?? [],
  );
  assert.deepEqual(blockIO, {
    weight: 80,
    weightDevice: [
      { major: 8, minor: 0, weight: 20 },
      { major: 8, minor: 16, weight: 20 },
    ],
    throttleReadBpsDevice: [
      { major: 8, minor: 0, rate: 1000 },
      { major: 8, minor: 16, rate: 9000 },
    ],
    throttleWriteIOPSDevice: [
      { major: 8, minor: 0, rate: 5 },
      { major: 8, minor: 16, rate: 5 },
    ],
  });
  assert.deepEqual(unmatched, ["/dev/none"]);
  assert.deepEqual(await toBlockIo([], () => assert.fail()), {});
});

test("block IO: what is no block device does not match", async () => {
  for (const name of ["xa", "xb", "x.c"]) writeFileSync(join(directory, name), "");
  const unmatched: string[] = [];
  for (const pattern of ["/dev/null", join(directory, "x[ab]"), join(directory, "x.*"), "/nowhere/*"]) {
    assert.deepEqual(await toBlockIo([{ devices: [pattern], weight: 10 }], (text) => unmatched.push(text)), {});
    assert.equal(unmatched.at(-1), pattern);
  }
});

test("RDT: a group is made once with its schemata, another's group is used as it is", () => {
  const root = join(directory, "resctrl");
  const rdt = new Rdt(root);
  const gold = { schemata: ["L3:0=ff", "MB:0=50"] };
  assert.throws(() => rdt.ensure("gold", gold), /"gold" cannot be given: resctrl is not mounted at/);
  mkdirSync(root);
  writeFileSync(join(root, "schemata"), "L3:0=fff\n");
  rdt.ensure("gold", gold);
  assert.equal(readFileSync(join(root, "gold", "schemata"), "utf8"), "L3:0=ff\nMB:0=50\n");
  writeFileSync(join(root, "gold", "schemata"), "by hand");
  rdt.ensure("gold", gold);
  assert.equal(readFileSync(join(root, "gold", "schemata"), "utf8"), "by hand");
  rmSync(join(root, "gold"), { recursive: true });
  rdt.ensure("gold", gold);
  assert.ok(existsSync(join(root, "gold", "schemata")));
  assert.throws(() => rdt.ensure("silver", { schemata: [] }), /"silver" has no schemata in config\.toml, and no group/);
  mkdirSync(join(root, "silver"));
  rdt.ensure("silver", { schemata: [] });
  assert.equal(rdt.tasksFile("silver"), join(root, "silver", "tasks"));
});

test("RDT: what cannot be a group's name", () => {
  for (const name of ["", ".", "..", "a/b", "info", "mon_data", "mon_groups", "a\nb"])
    assert.ok(!isRdtClassName(name), name);
  assert.ok(isRdtClassName("guaranteed"));
});
