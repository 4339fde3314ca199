import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { InvalidArgumentError } from "./errors.js";
import { readHostFiles } from "./host-files.js";
import { openApparmor } from "./lsm/apparmor.js";
import { containerConfig, withSecurity } from "./spec/spec-fixtures.js";

const noApparmor = await openApparmor(false);
const directory = mkdtempSync(join(tmpdir(), "berth-host-files-"));
after(() => rmSync(directory, { recursive: true }));

const devicesOf = async (...devices: Record<string, string>[]) =>
  (await readHostFiles(containerConfig({ devices }), noApparmor)).devices;

test("a device, by its name and by a link", async () => {
  symlinkSync("/dev/null", join(directory, "link"));
  const expected = { type: "c", major: 1, minor: 3, fileMode: 0o666, uid: 0, gid: 0, access: "rw" };
  assert.deepEqual(await devicesOf({ host_path: "/dev/null", container_path: "/dev/void", permissions: "rw" }), [
    { path: "/dev/void", ...expected },
  ]);
  assert.deepEqual(
    await devicesOf({ host_path: join(directory, "link"), container_path: "/dev/l", permissions: "rw" }),
    [{ path: "/dev/l", ...expected }],
  );
});

test("a directory of devices, and a minor number beyond 8 bits", async () => {
  execFileSync("mknod", [join(directory, "big"), "b", "259", "300"]);
  const found = await devicesOf({ host_path: directory, container_path: "/dev/d", permissions: "r" });
  const big = found.find(({ path }) => path === "/dev/d/big");
  assert.deepEqual([big?.type, big?.major, big?.minor, big?.access], ["b", 259, 300, "r"]);
});

test("a privileged container gets the host's devices, without terminals and shared memory", async () => {
  const { devices } = await readHostFiles(withSecurity({ privileged: true }), noApparmor);
  const paths = devices.map(({ path }) => path);
  assert.ok(paths.includes("/dev/null"));
  assert.ok(!paths.some((path) => /^\/dev\/(pts|shm|mqueue|ptmx|console)/.test(path)));
});

test("devices that cannot be are refused by field", async () => {
  const good = { host_path: "/dev/null", container_path: "/dev/null", permissions: "r" };
  const file = join(directory, "file");
  writeFileSync(file, "");
  const bad: [Record<string, string>, RegExp][] = [
    [{ ...good, permissions: "" }, /config\.devices\[0\]\.permissions: ""/],
    [{ ...good, permissions: "rx" }, /permissions: "rx"/],
    [{ ...good, permissions: "rr" }, /permissions: "rr"/],
    [{ ...good, host_path: "dev/null" }, /config\.devices\[0\]\.host_path: "dev\/null" is not absolute/],
    [{ ...good, host_path: "/dev/berth-none" }, /config\.devices\[0\]\.host_path: ENOENT.*berth-none/],
    [{ ...good, host_path: file }, /is no device and holds none/],
  ];
  for (const [device, message] of bad) await assert.rejects(devicesOf(device), invalid(message));
});

test("a Localhost profile is read from a regular file of at most 1 MiB", async () => {
  const path = join(directory, "profile.json");
  const read = (localhost_ref: string) =>
    readHostFiles(withSecurity({ seccomp: { profile_type: "Localhost", localhost_ref } }), noApparmor);
  writeFileSync(path, "{}");
  assert.equal((await read(path)).seccompProfile, "{}");
  assert.equal((await readHostFiles(withSecurity({ seccomp: {} }), noApparmor)).seccompProfile, null);
  const fifo = join(directory, "fifo");
  execFileSync("mkfifo", [fifo]);
  await assert.rejects(read(fifo), invalid(/seccomp\.localhost_ref: .*fifo is no regular file/));
  await assert.rejects(read("/dev/zero"), invalid(/is no regular file/));
  await assert.rejects(read(join(directory, "none")), invalid(/localhost_ref: .*ENOENT/));
  writeFileSync(path, "x".repeat(1024 * 1024 + 1));
  await assert.rejects(read(path), invalid(/larger than 1 MiB/));
});

function invalid(pattern: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof InvalidArgumentError && pattern.test(error.message);
}
