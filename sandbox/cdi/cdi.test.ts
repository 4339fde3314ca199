import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { buildSpec } from "../spec/build-spec.js";
import { containerConfig, specInput } from "../spec/spec-fixtures.js";
import { applyCdiEdits } from "./apply-edits.js";
import { askedDevices } from "./names.js";
import { findCdiEdits } from "./registry.js";
import { type CdiEdits, checkCdiSpec } from "./spec-file.js";

let base: string;
let directories: [string, string];

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "berth-cdi-"));
  directories = [join(base, "etc"), join(base, "run")];
  for (const directory of directories) mkdirSync(directory);
});

afterEach(() => rmSync(base, { recursive: true, force: true }));

const kind = "vendor.example/gpu";
const file = (devices: object[], more: object = {}) => ({ cdiVersion: "0.8.0", kind, devices, ...more });
const device = (name: string, containerEdits: object = { env: [`${name}=1`] }) => ({ name, containerEdits });
const write = (directory: string, name: string, content: object | string): void =>
  writeFileSync(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
const find = (...names: string[]) =>
  findCdiEdits(
    names.map((name) => ({ name: `${kind}=${name}`, field: "config.CDI_devices[0].name" })),
    directories,
  );
const envOf = async (...names: string[]) => (await find(...names)).flatMap(({ edits }) => edits.env ?? []);

test("devices are asked for by the field and by annotations, each once", () => {
  const asked = askedDevices(
    containerConfig({
      CDI_devices: [{ name: "v.example/net=eth0" }, { name: "v.example/net=eth0" }],
      annotations: { "cdi.k8s.io/plugin_x": "v.example/gpu=0,v.example/net=eth0", other: "x" },
    }),
  );
  assert.deepEqual(
    asked.map(({ name }) => name),
    ["v.example/net=eth0", "v.example/gpu=0"],
  );
  for (const name of ["", "gpu", "v/gpu", "v/gpu=", "/gpu=x", "v/gpu=x y", "1v/gpu=x", "v/g/x=1", "v/gpu=-x"]) {
    assert.throws(
      () => askedDevices(containerConfig({ CDI_devices: [{ name }] })),
      /^InvalidArgumentError: config\.CDI_devices\[0\]\.name: ".*" is no CDI device name/,
      name,
    );
  }
  assert.throws(
    () => askedDevices(containerConfig({ annotations: { "cdi.k8s.io/p": "v/gpu=x,bad" } })),
    /config\.annotations\["cdi\.k8s\.io\/p"\]: "bad"/,
  );
});

test("files are JSON or YAML; what is for all of a file's devices comes once, before the first", async () => {
  write(directories[0], "a.json", file([device("one"), device("two")], { containerEdits: { env: ["ALL=1"] } }));
  write(
    directories[0],
    "b.yaml",
    `cdiVersion: "0.8.0"\nkind: ${kind}\ndevices:\n- name: three\n  containerEdits:\n    env: [three=1]\n`,
  );
  write(directories[0], "ignored.txt", "no specification");
  assert.deepEqual(await envOf("two", "three", "one"), ["ALL=1", "two=1", "three=1", "one=1"]);
});

test("a later directory counts more; two files of one directory are in each other's way", async () => {
  write(directories[0], "a.json", file([device("one", { env: ["FROM=etc"] }), device("two")]));
  write(directories[1], "a.json", file([device("one", { env: ["FROM=run"] })]));
  assert.deepEqual(await envOf("one", "two"), ["FROM=run", "two=1"]);
  write(directories[1], "b.json", file([device("one")]));
  await assert.rejects(
    find("one"),
    /InvalidArgumentError: .*\/run\/a\.json and .*\/run\/b\.json define the CDI device/,
  );
  assert.deepEqual(await envOf("two"), ["two=1"]);
});

test("a device that nobody defines is named, with the files that cannot be used", async () => {
  await assert.rejects(find("none"), /config\.CDI_devices\[0\]\.name: no file in .*\/etc, .*\/run defines .*gpu=none$/);
  write(directories[0], "broken.json", "{");
  write(directories[0], "field.json", file([{ ...device("none"), color: "red" }]));
  await assert.rejects(find("none"), /gpu=none \(these files cannot be used: .*broken\.json: .*field\.json: .*color/);
  await assert.rejects(findCdiEdits([{ name: "v.example/x=y", field: "f" }], [join(base, "absent")]), /f: no file in/);
});

test("a file is held against the specification", () => {
  const bad: [object, RegExp][] = [
    [{ ...file([]), cdiVersion: "9.0.0" }, /cdiVersion/],
    [{ ...file([]), kind: "gpu" }, /kind: is not vendor\/class/],
    [file([device("-x")]), /devices\.0\.name/],
    [file([device("x"), device("x")]), /devices: name one device twice/],
    [file([device("x", { env: ["A"] })]), /env\.0: is not NAME=value/],
    [file([device("x", { deviceNodes: [{ path: "dev/x" }] })]), /deviceNodes\.0\.path: is not an absolute path/],
    [file([device("x", { deviceNodes: [{ path: "/dev/x", permissions: "x" }] })]), /permissions/],
    [file([device("x", { hooks: [{ hookName: "when", path: "/x" }] })]), /hookName/],
    [file([device("x", { netDevices: [{ hostInterfaceName: "a", name: "b" }] })]), /it is 0\.8\.0, .* needs 1\.1\.0/],
    [{ ...file([device("x", { additionalGids: [5] })]), cdiVersion: "0.6.0" }, /needs 0\.7\.0/],
    [{ ...file([device("0x")]), cdiVersion: "0.4.0" }, /needs 0\.5\.0/],
    [{ ...file([device("x")]), kind: "v.example/a.b", cdiVersion: "0.5.0" }, /needs 0\.6\.0/],
  ];
  for (const [content, message] of bad) assert.throws(() => checkCdiSpec(content), message);
  assert.equal(checkCdiSpec({ ...file([device("x")]), cdiVersion: "0.3.0" }).kind, kind);
});

test("edits: variables, nodes and their rules, mounts, groups", async () => {
  const spec = buildSpec(specInput({ config: containerConfig({ envs: [{ key: "A", value: Buffer.from("old") }] }) }));
  const edits = (...parts: CdiEdits[]) => parts.map((part) => ({ device: `${kind}=x`, edits: part }));
  const lookup = async () => ({ type: "b" as const, major: 7, minor: 3, fileMode: 0o660 });
  const edited = await applyCdiEdits(
    spec,
    edits(
      { env: ["A=new", "B=1"], additionalGids: [44, 0, 44] },
      {
        deviceNodes: [
          { path: "/dev/disk", hostPath: "/dev/loop3", permissions: "r" },
          { path: "/dev/null", type: "c", major: 9, minor: 9, uid: 5, fileMode: 0o600 },
        ],
        mounts: [
          { hostPath: "/usr/lib/gpu", containerPath: "/usr/lib/gpu/", options: ["ro", "nosuid", "bind"] },
          { hostPath: "/x", containerPath: "/etc/hosts", options: ["rbind", "slave"] },
          { hostPath: "tmpfs", containerPath: "/scratch", type: "tmpfs", options: ["size=1m"] },
        ],
      },
    ),
    lookup,
  );
  assert.deepEqual(
    edited.process.env.filter((variable) => /^[AB]=/.test(variable)),
    ["A=new", "B=1"],
  );
  assert.deepEqual(edited.process.user.additionalGids, [0, 44]);
  const node = (path: string) => edited.linux.devices.filter((entry) => entry.path === path);
  assert.deepEqual(node("/dev/disk"), [
    { path: "/dev/disk", type: "b", major: 7, minor: 3, fileMode: 0o660, uid: 0, gid: 0 },
  ]);
  assert.deepEqual(node("/dev/null"), [
    { path: "/dev/null", type: "c", major: 9, minor: 9, fileMode: 0o600, uid: 5, gid: 0 },
  ]);
  assert.deepEqual(edited.linux.resources.devices?.slice(-2), [
    { allow: true, type: "b", major: 7, minor: 3, access: "r" },
    { allow: true, type: "c", major: 9, minor: 9, access: "rwm" },
  ]);
  const mount = (path: string) => edited.mounts.filter(({ destination }) => destination === path);
  assert.deepEqual(mount("/usr/lib/gpu")[0]?.options, ["rprivate", "ro", "nosuid", "bind"]);
  assert.deepEqual(mount("/etc/hosts"), [
    { destination: "/etc/hosts", type: "bind", source: "/x", options: ["rbind", "rslave"] },
  ]);
  assert.equal(mount("/scratch")[0]?.type, "tmpfs");
});

test("edits that Berth does not make are refused by the device's name", async () => {
  const spec = buildSpec(specInput());
  const apply = (edits: CdiEdits) => applyCdiEdits(spec, [{ device: `${kind}=x`, edits }]);
  await assert.rejects(apply({ intelRdt: { closID: "x" } }), /FailedPreconditionError: CDI device .*gpu=x .*intelRdt/);
  await assert.rejects(apply({ netDevices: [{ hostInterfaceName: "a", name: "b" }] }), /gpu=x asks for netDevices/);
  await assert.rejects(
    apply({ deviceNodes: [{ path: "/dev/none-such" }] }),
    /InvalidArgumentError: .*gpu=x.*none-such/,
  );
  await assert.rejects(apply({ deviceNodes: [{ path: "/dev/null", type: "b" }] }), /is of type c, not b/);
  await assert.rejects(apply({ mounts: [{ hostPath: "/x", containerPath: "/proc/x" }] }), /gpu=x.*\/proc/);
  await assert.rejects(apply({ mounts: [{ hostPath: "x", containerPath: "/x" }] }), /hostPath "x" is not absolute/);
  await assert.rejects(apply({ mounts: [{ hostPath: "/x", containerPath: "/x", type: "ext4" }] }), /of type ext4/);
});
