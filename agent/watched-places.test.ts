import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { WatchedPlaces } from "./watched-places.js";

const base = mkdtempSync(join(tmpdir(), "berth-places-"));
after(() => rmSync(base, { recursive: true }));

const path = join(base, "root");
let places: WatchedPlaces;
beforeEach(() => {
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path);
  places = new WatchedPlaces([{ setting: "root", path }], []);
});
const found = async (of = places) => (await of.findings()).map(({ id, what }) => `${id} ${what}`).join();

test("a directory that is as it was", async () => {
  assert.equal(await found(), "");
  places.suspect();
  assert.equal(await found(), "");
});

test("one that is deleted, and comes back", async () => {
  renameSync(path, `${path}.away`);
  assert.equal(await found(), `DirectoryGone ${path} (root) is gone`);
  renameSync(`${path}.away`, path);
  assert.equal(await found(), "");
});

test("one that the first pod makes may be missing, and be another, but not be without writing", async () => {
  const made = new WatchedPlaces([{ setting: "netns-dir", path, isMadeLater: true }], []);
  assert.equal(await found(made), "");
  rmSync(path, { recursive: true });
  assert.equal(await found(made), "");
  symlinkSync(tmpdir(), path);
  assert.equal(await found(made), "");
  rmSync(path);
  symlinkSync("/proc/sys/kernel/osrelease/x", path);
  assert.match(await found(made), /^DirectoryGone /);
});

test("another one in its place", async () => {
  renameSync(path, `${path}.away`);
  mkdirSync(path);
  assert.match(await found(), /^DirectoryExchanged .*root \(root\) is not what the agent began with/);
  rmSync(path, { recursive: true });
  renameSync(`${path}.away`, path);
  assert.equal(await found(), "");
});

test("another run directory is a warning: pods can be started in it", async () => {
  const run = { setting: "run", path, consequenceOfExchange: "pods are lost" } as const;
  const watched = new WatchedPlaces([run], []);
  renameSync(path, `${path}.away`);
  mkdirSync(path);
  const [warning] = await watched.findings();
  assert.deepEqual(
    [warning?.id, warning?.severity, warning?.consequence, warning?.breaks],
    ["DirectoryExchanged", "warning", "pods are lost", undefined],
  );
  rmSync(`${path}.away`, { recursive: true });
});

test("a file in its place", async () => {
  rmSync(path, { recursive: true });
  writeFileSync(path, "");
  assert.match(await found(), /^DirectoryExchanged /);
});

test("a hierarchy of cgroups that is none, and one that is not there", async () => {
  const none = { version: 2 as const, controllers: [], name: "" };
  const hierarchies = [
    { ...none, mountPoint: base },
    { ...none, mountPoint: join(base, "missing") },
  ];
  const [lost] = await new WatchedPlaces([], hierarchies).findings();
  assert.equal(lost?.what, `no cgroups are mounted any more at ${base}, ${join(base, "missing")}`);
  assert.equal(lost?.breaks, "RuntimeReady");
});

test("a disk that hangs holds no answer up, and is told of after a while", async () => {
  const slow = new WatchedPlaces([{ setting: "root", path }], [], {
    answerMs: 20,
    tellMs: 200,
    askFileSystemMs: 60_000,
  });
  // nobody writes to it: whoever opens it waits, as for a disk, and has one of Node's threads
  const pipe = join(base, "pipe");
  execFileSync("mkfifo", [pipe]);
  const waiting = Array.from({ length: Number(process.env["UV_THREADPOOL_SIZE"] ?? 4) }, () => open(pipe, "r"));
  const begun = performance.now();
  assert.equal(await found(slow), "");
  assert.ok(performance.now() - begun < 5_000);
  while (performance.now() - begun < 400) await found(slow);
  assert.equal(await found(slow), `DirectorySilent ${path} (root) does not answer: its disk hangs`);
  const writer = openSync(pipe, "r+");
  for (const file of await Promise.all(waiting)) await file.close();
  assert.equal(await found(slow), "");
  assert.ok(writer > 0);
});
