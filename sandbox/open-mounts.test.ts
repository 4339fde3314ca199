import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { native } from "../native/binding.js";
import { InvalidArgumentError } from "./errors.js";
import { MadeDirectories } from "./made-directories.js";
import { mountPropagation } from "./mount-options.js";
import { makesMissingSources, openMounts } from "./open-mounts.js";
import { buildSpec } from "./spec/build-spec.js";
import type { Mount, OciSpec } from "./spec/oci.js";
import { containerConfig, specInput } from "./spec/spec-fixtures.js";

let directory: string;
let attached: string[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "berth-open-mounts-"));
  attached = [];
});

afterEach(async () => {
  for (const path of attached.reverse()) await native.unmount(path);
  rmSync(directory, { recursive: true, force: true });
});

function specOf(...mounts: Mount[]): OciSpec {
  return { ...buildSpec(specInput()), mounts };
}

function bind(source: string, ...options: string[]): Mount {
  return { destination: "/m", type: "bind", source, options: ["rbind", ...options] };
}

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Attaches a detached mount, for its options to be read; gone after the test. */
async function attach(fd: number, name: string): Promise<string[]> {
  const path = join(directory, name);
  mkdirSync(path);
  await native.attachMount(fd, path);
  attached.push(path);
  return mountLine(path);
}

function mountLine(path: string): string[] {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  return lines.find((line) => line.split(" ")[4] === path)?.split(" ") ?? [];
}

/** A mount of its own on a new directory, shared when asked for. */
async function makeMount(name: string, shared: boolean): Promise<string> {
  const path = join(directory, name);
  mkdirSync(path);
  const fd = await native.openTree({ path, recursive: false });
  try {
    await native.attachMount(fd, path);
    attached.push(path);
    const propagation = shared ? mountPropagation.rshared : mountPropagation.rprivate;
    const root = native.openPath(path);
    native.setMountAttributes(root, { propagation });
    native.closeDescriptor(root);
  } finally {
    native.closeDescriptor(fd);
  }
  return path;
}

test("directories, files and links are opened with their options, and nothing is attached", async () => {
  mkdirSync(join(directory, "dir"));
  writeFileSync(join(directory, "file"), "");
  symlinkSync("dir", join(directory, "link"));
  // others mount and unmount at the same time
  const ours = () =>
    readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => line.includes(directory));
  const before = ours();
  const open = await openMounts(
    specOf(
      { destination: "/proc", type: "proc", source: "proc", options: [] },
      bind(join(directory, "dir"), "rprivate", "ro", "nosuid"),
      bind(join(directory, "file"), "rprivate", "rw"),
      bind(join(directory, "link"), "rprivate", "rw"),
    ),
    { makeMissing: null },
  );
  try {
    assert.deepEqual(
      open.mounts.map(({ isFile }) => isFile),
      [false, true, false],
    );
    assert.deepEqual(ours(), before);
    const [readonly, , link] = open.mounts;
    const options = await attach(readonly?.fd ?? -1, "a");
    assert.match(options[5] ?? "", /^ro,nosuid/);
    assert.match((await attach(link?.fd ?? -1, "b"))[5] ?? "", /^rw/);
  } finally {
    open.close();
  }
});

test("read-only is for the mount alone, rro for all below it", async () => {
  const outer = await makeMount("outer", false);
  await makeMount("outer/inner", false);
  for (const [option, expected] of [
    ["ro", "rw"],
    ["rro", "ro"],
  ] as const) {
    const open = await openMounts(specOf(bind(outer, "rprivate", option)), { makeMissing: null });
    await attach(open.mounts[0]?.fd ?? -1, `at-${option}`);
    open.close();
    const inner = join(directory, `at-${option}`, "inner");
    attached.push(inner);
    assert.match(mountLine(inner)[5] ?? "", new RegExp(`^${expected},`), option);
    assert.match(mountLine(join(directory, `at-${option}`))[5] ?? "", /^ro,/);
  }
});

test("propagation: private cuts off, a slave follows, shared stays a peer", async () => {
  const source = await makeMount("shared", true);
  const peerOf = (line: string[]) => line.filter((field) => /^(shared|master):/.test(field)).join(" ");
  const group = peerOf(mountLine(source)).replace("shared:", "");
  for (const [option, expected] of [
    ["rprivate", ""],
    ["rslave", `master:${group}`],
    ["rshared", `shared:${group}`],
  ] as const) {
    const open = await openMounts(specOf(bind(source, option, "rw")), { makeMissing: null });
    assert.equal(peerOf(await attach(open.mounts[0]?.fd ?? -1, `at-${option}`)), expected);
    open.close();
  }
});

test("propagation from a private mount is refused: nothing would ever arrive", async () => {
  const source = await makeMount("private", false);
  const descriptors = openDescriptors();
  for (const option of ["rslave", "rshared"]) {
    await assert.rejects(openMounts(specOf(bind(source, option, "rw")), { makeMissing: null }), (error) => {
      assert.ok(error instanceof InvalidArgumentError);
      assert.match(error.message, new RegExp(`host_path ${source} .*shared`));
      return true;
    });
  }
  assert.equal(openDescriptors(), descriptors);
});

test("a source that cannot be opened names both paths and leaves nothing", async () => {
  mkdirSync(join(directory, "dir"));
  writeFileSync(join(directory, "file"), "");
  symlinkSync("nowhere", join(directory, "dangling"));
  symlinkSync("loop", join(directory, "loop"));
  const descriptors = openDescriptors();
  const cases: [string, string, boolean][] = [
    ["missing/deep", "ENOENT", false],
    ["file/below", "ENOTDIR", false],
    ["file/below", "ENOTDIR", true],
    ["loop", "ELOOP", true],
    ["dangling", "", true],
  ];
  for (const [name, errno, makeMissing] of cases) {
    const source = join(directory, name);
    const spec = specOf(
      bind(join(directory, "dir"), "rprivate"),
      bind(join(directory, "made", "x"), "rprivate"),
      bind(source, "rprivate"),
    );
    const [first, second, third] = spec.mounts;
    spec.mounts = [first, ...(makeMissing ? [second] : []), third].filter((mount) => mount !== undefined);
    const made = new MadeDirectories(() => undefined);
    const options = { makeMissing: makeMissing ? (path: string) => made.make(path) : null };
    await assert.rejects(openMounts(spec, options), (error) => {
      assert.ok(error instanceof InvalidArgumentError);
      assert.match(error.message, new RegExp(`host_path ${source} of the mount with container_path /m .*${errno}`));
      return true;
    });
    made.takeBack();
    assert.ok(!existsSync(join(directory, "made")), "what was made is gone");
  }
  assert.equal(openDescriptors(), descriptors);
});

test("a missing source becomes a directory for the kubelet's containers", async () => {
  assert.equal(makesMissingSources(containerConfig()), false);
  assert.equal(makesMissingSources(containerConfig({ labels: { "io.kubernetes.container.name": "c" } })), true);
  const source = join(directory, "a", "b");
  let noted: readonly string[] = [];
  const made = new MadeDirectories((all) => {
    noted = all;
    assert.ok(!existsSync(source), "it is noted before it is there");
  });
  const makeMissing = (path: string) => made.make(path);
  const open = await openMounts(specOf(bind(source, "rprivate")), { makeMissing });
  assert.equal(open.mounts[0]?.isFile, false);
  assert.ok(existsSync(source));
  assert.deepEqual(noted, [join(directory, "a"), source]);
  open.close();
  made.takeBack();
  assert.ok(!existsSync(join(directory, "a")));
});

test("more sources than a monitor takes are refused at once", async () => {
  const many = Array.from({ length: 4096 }, () => bind(directory, "rprivate"));
  await assert.rejects(openMounts(specOf(...many), { makeMissing: null }), /config\.mounts: 4096 mounts/);
});
