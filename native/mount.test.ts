import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { native } from "./binding.js";
import { kernelFeatures } from "./features.js";
import {
  compileProgram,
  failure,
  mountsBelow,
  openDescriptors,
  run,
  scratchDirectory,
  uniqueName,
} from "./test-support.js";

const readonly = 1; // MOUNT_ATTR_RDONLY
const nosuid = 2; // MOUNT_ATTR_NOSUID

/** The line of a mount point in mountinfo. */
function mountLine(path: string): string {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  return lines.find((line) => line.split(" ")[4] === path) ?? "";
}

/** Attaches until the scratch directory is removed, to look at it by path. */
async function attach(fd: number, path: string): Promise<void> {
  mkdirSync(path, { recursive: true });
  await native.attachMount(fd, path);
  native.closeDescriptor(fd);
}

function layers(t: TestContext, count: number): { directory: string; lower: string[]; upper: string; work: string } {
  const directory = scratchDirectory(t);
  const lower = Array.from({ length: count }, (_, i) => join(directory, `layer-${"x".repeat(60)}-${i}`));
  for (const [i, path] of lower.entries()) {
    mkdirSync(path);
    writeFileSync(join(path, "all"), `layer ${i}`);
    writeFileSync(join(path, `only-${i}`), "");
  }
  const upper = join(directory, "upper");
  const work = join(directory, "work");
  mkdirSync(upper);
  mkdirSync(work);
  return { directory, lower, upper, work };
}

const first = 300_000;
/** the scratch directory may be on a tmpfs */
const skip = kernelFeatures().idmappedTmpfs ? false : "this kernel has no idmapped tmpfs";

async function userNamespace(t: TestContext): Promise<number> {
  const range = { containerId: 0, hostId: first, length: 65_536 };
  const fd = await native.makeUserNamespace({ uids: range, gids: range });
  t.after(() => native.closeDescriptor(fd));
  return fd;
}

for (const scratchNamespace of [false, true]) {
  const way = scratchNamespace ? "scratch namespace" : "mount context";

  test(`overlay by ${way}: copy on write, nothing attached on the host`, async (t) => {
    const { directory, lower, upper, work } = layers(t, 3);
    const fd = await native.mountOverlay({ lower, upper, work, volatile: true, scratchNamespace });
    assert.deepEqual(mountsBelow(directory), []);
    const root = join(directory, "root");
    await attach(fd, root);
    assert.equal(readFileSync(join(root, "all"), "utf8"), "layer 0");
    assert.deepEqual(readdirSync(root), ["all", "only-0", "only-1", "only-2"]);
    writeFileSync(join(root, "only-2"), "changed");
    assert.equal(readFileSync(join(upper, "only-2"), "utf8"), "changed");
    assert.equal(readFileSync(join(lower[2] ?? "", "only-2"), "utf8"), "");
    assert.match(mountLine(root), /volatile/);
  });

  test(`overlay by ${way}: 120 layers, more than one page of paths`, async (t) => {
    const { directory, lower } = layers(t, 120);
    const fd = await native.mountOverlay({ lower, scratchNamespace });
    const root = join(directory, "root");
    await attach(fd, root);
    assert.equal(readdirSync(root).length, 121);
    assert.throws(() => writeFileSync(join(root, "new"), ""), { code: "EROFS" });
  });

  test(`overlay by ${way}: readonly with an upper layer`, async (t) => {
    const { directory, lower, upper, work } = layers(t, 2);
    writeFileSync(join(upper, "from-upper"), "");
    const fd = await native.mountOverlay({ lower, upper, work, readonly: true, scratchNamespace });
    const root = join(directory, "root");
    await attach(fd, root);
    assert.ok(existsSync(join(root, "from-upper")));
    assert.throws(() => writeFileSync(join(root, "new"), ""), { code: "EROFS" });
  });

  test(`overlay by ${way}: layers with mapped ids, a copy keeps its owner`, { skip }, async (t) => {
    const { directory, lower, upper, work } = layers(t, 3);
    chownSync(join(lower[1] ?? "", "only-1"), 1000, 1001);
    const userNamespaceFd = await userNamespace(t);
    const before = openDescriptors();
    const fd = await native.mountOverlay({ lower, upper, work, userNamespaceFd, scratchNamespace });
    assert.equal(openDescriptors(), before + 1);
    assert.deepEqual(mountsBelow(directory), []);
    const root = join(directory, "root");
    await attach(fd, root);
    const owner = (path: string) => [statSync(path).uid, statSync(path).gid];
    assert.deepEqual(owner(join(root, "only-1")), [first + 1000, first + 1001]);
    assert.deepEqual(owner(join(root, "only-2")), [first, first]);
    writeFileSync(join(root, "only-1"), "changed");
    assert.deepEqual(owner(join(upper, "only-1")), [first + 1000, first + 1001]);
    assert.deepEqual(owner(join(lower[1] ?? "", "only-1")), [1000, 1001]);
  });

  test(`overlay by ${way}: what is missing is named, and nothing is left`, async (t) => {
    const { directory, lower, upper, work } = layers(t, 2);
    const before = openDescriptors();
    const missing = join(directory, "missing");
    const error = await failure(() =>
      native.mountOverlay({ lower: [...lower, missing], upper, work, scratchNamespace }),
    );
    assert.equal(error.errnoName, "ENOENT");
    const wrong = await failure(() => native.mountOverlay({ lower, upper: missing, work, scratchNamespace }));
    assert.match(`${wrong.subject} ${wrong.message}`, /missing/);
    assert.equal(openDescriptors(), before);
    assert.deepEqual(mountsBelow(directory), []);
  });
}

test("a single read-only layer", async (t) => {
  const { directory, lower } = layers(t, 1);
  const root = join(directory, "root");
  await attach(await native.mountOverlay({ lower }), root);
  assert.equal(readFileSync(join(root, "all"), "utf8"), "layer 0");
  assert.throws(() => writeFileSync(join(root, "all"), ""), { code: "EROFS" });
});

test("a clone of a tree shows mapped ids, the original stays as it is", { skip }, async (t) => {
  const directory = scratchDirectory(t);
  const source = join(directory, "source");
  mkdirSync(source);
  writeFileSync(join(source, "file"), "");
  const userNamespaceFd = await userNamespace(t);
  await attach(await native.openTree({ path: source, recursive: true, userNamespaceFd }), join(directory, "target"));
  assert.equal(statSync(join(directory, "target", "file")).uid, first);
  assert.equal(statSync(join(source, "file")).uid, 0);
  const before = openDescriptors();
  const error = await failure(() => native.openTree({ path: "/proc", recursive: false, userNamespaceFd }));
  assert.deepEqual([error.syscall, error.errnoName], ["mount_setattr MOUNT_ATTR_IDMAP", "EINVAL"]);
  const again = await failure(() =>
    native.openTree({ path: join(directory, "target"), recursive: false, userNamespaceFd }),
  );
  assert.equal(again.errnoName, "EPERM");
  assert.equal(openDescriptors(), before);
});

test("a clone of a tree carries its attributes, the original stays as it is", async (t) => {
  const directory = scratchDirectory(t);
  const source = join(directory, "source");
  mkdirSync(source);
  const fd = await native.openTree({ path: source, recursive: true, attributes: { set: readonly, recursive: true } });
  native.setMountAttributes(fd, { set: nosuid, propagation: 1 << 18 /* MS_PRIVATE */ });
  await attach(fd, join(directory, "target"));
  assert.match(mountLine(join(directory, "target")), / ro,nosuid/);
  assert.throws(() => writeFileSync(join(directory, "target", "x"), ""), { code: "EROFS" });
  writeFileSync(join(source, "x"), "");
});

test("a path within a root cannot lead out of it", async (t) => {
  const root = scratchDirectory(t);
  mkdirSync(join(root, "etc"));
  writeFileSync(join(root, "etc", "hostname"), "inside");
  symlinkSync("/etc/hostname", join(root, "absolute"));
  symlinkSync("../../../../../../etc/hostname", join(root, "relative"));
  symlinkSync("/proc/self/root/etc/hostname", join(root, "magic"));
  for (const path of ["absolute", "relative", "/../../etc/hostname"]) {
    const fd = await native.openTree({ path, root, recursive: false });
    assert.equal(readFileSync(`/proc/self/fd/${fd}`, "utf8"), "inside", path);
    native.closeDescriptor(fd);
  }
  assert.equal((await failure(() => native.openTree({ path: "magic", root, recursive: false }))).errnoName, "ENOENT");
  const error = await failure(() => native.openTree({ path: join(root, "none"), recursive: false }));
  assert.deepEqual([error.syscall, error.errnoName, error.subject], ["open_tree", "ENOENT", join(root, "none")]);
});

test("files are read within a root, and only regular ones", async (t) => {
  const root = scratchDirectory(t);
  mkdirSync(join(root, "etc"));
  writeFileSync(join(root, "etc", "passwd"), "root:x:0:0");
  symlinkSync("/etc/passwd", join(root, "link"));
  await run("mkfifo", join(root, "fifo"));
  await run("mknod", join(root, "zero"), "c", "1", "5");
  const rootFd = native.openPath(root);
  t.after(() => native.closeDescriptor(rootFd));
  const read = (path: string, limitBytes = 100) => native.readFileInRoot({ rootFd, path, limitBytes });
  assert.equal((await read("etc/passwd")).toString(), "root:x:0:0");
  assert.equal((await read("/link", 10)).toString(), "root:x:0:0");
  const before = openDescriptors();
  for (const [path, limit, errnoName] of [
    ["etc/passwd", 9, "EFBIG"],
    ["fifo", 100, "EINVAL"],
    ["zero", 100, "EINVAL"],
    ["etc", 100, "EISDIR"],
    ["none", 100, "ENOENT"],
  ] as const) {
    const error = await failure(() => read(path, limit));
    assert.deepEqual([error.errnoName, error.subject], [errnoName, path]);
  }
  assert.equal(openDescriptors(), before);
});

test("a path is opened without what opening it would do", async (t) => {
  const directory = scratchDirectory(t);
  await run("mkfifo", join(directory, "fifo"));
  const fd = native.openPath(join(directory, "fifo")); // would wait for a writer
  native.closeDescriptor(fd);
  assert.equal((await failure(() => native.closeDescriptor(fd))).errnoName, "EBADF");
  assert.equal((await failure(() => native.unmount(directory))).errnoName, "EINVAL");
});

test("a lock is held by one, in and out of this process", async (t) => {
  const path = join(scratchDirectory(t), uniqueName("lock"));
  const fd = native.lockFile(path);
  assert.equal((await failure(() => native.lockFile(path))).errnoName, "EAGAIN");
  assert.equal(spawnSync("flock", ["-n", path, "true"]).status, 1);
  native.closeDescriptor(fd);
  native.closeDescriptor(native.lockFile(path));
  assert.equal(lstatSync(path).mode & 0o777, 0o600);
});

const diskUsage = (path: string) => native.openUsageWalk(path).step(10_000);

test("disk usage counts blocks and inodes, hard links once, and other file systems not at all", async (t) => {
  const directory = scratchDirectory(t);
  writeFileSync(join(directory, "file"), Buffer.alloc(1 << 20, 1));
  await run("ln", join(directory, "file"), join(directory, "again"));
  symlinkSync("/", join(directory, "host"));
  mkdirSync(join(directory, "sub"));
  chmodSync(join(directory, "sub"), 0);
  mkdirSync(join(directory, "proc"));
  await attach(await native.openTree({ path: "/proc", recursive: false }), join(directory, "proc"));
  const usage = await diskUsage(directory);
  assert.equal(usage.inodes, 4); // itself, file, host, sub
  assert.ok(usage.bytes >= 1 << 20 && usage.bytes < (1 << 20) + 64 * 1024, `${usage.bytes}`);
  assert.equal((await failure(() => diskUsage(join(directory, "none")))).errnoName, "ENOENT");
});

test("disk usage of a tree deeper than PATH_MAX and than the descriptors", async (t) => {
  const directory = scratchDirectory(t);
  const source = `
    #include <sys/stat.h>
    #include <unistd.h>
    int main(int count, char **arguments) {
      if (count != 2 || chdir(arguments[1])) return 1;
      for (int i = 0; i < 1500; i++) if (mkdir("dddddddd", 0755) || chdir("dddddddd")) return 2;
      return 0;
    }`;
  const nest = await compileProgram(directory, "nest", source);
  mkdirSync(join(directory, "deep"));
  await run(nest, join(directory, "deep"));
  assert.equal((await diskUsage(join(directory, "deep"))).inodes, 1501);
  await run("rm", "-rf", join(directory, "deep"));
});

test("many small files in one call", async (t) => {
  const directory = scratchDirectory(t);
  writeFileSync(join(directory, "big"), Buffer.alloc(64 * 1024 + 1));
  const results = await native.readFiles([
    "/proc/sys/kernel/osrelease",
    join(directory, "none"),
    join(directory, "big"),
    directory,
  ]);
  assert.deepEqual(results, [
    { content: readFileSync("/proc/sys/kernel/osrelease", "utf8") },
    { errnoName: "ENOENT" },
    { errnoName: "EFBIG" },
    { errnoName: "EISDIR" },
  ]);
});
