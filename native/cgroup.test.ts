import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { native } from "./binding.js";
import { failure, uniqueName, until } from "./test-support.js";

const roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/freezer", "/sys/fs/cgroup/pids"];
const present = roots.filter((root) => existsSync(join(root, "cgroup.procs")));
const cgroup2 = present.find((root) => existsSync(join(root, "cgroup.controllers")));
const v1 = present.filter((root) => root !== cgroup2);

function cgroupsOf(t: TestContext, parents: string[]): string[] {
  const name = uniqueName("berth-cgroup-");
  const directories = parents.map((parent) => join(parent, name));
  t.after(async () => {
    await native.killCgroups({ directories, timeoutMs: 5000 });
    await native.removeCgroups({ directories, timeoutMs: 5000 });
  });
  return directories;
}

function processIn(directories: string[], script = "sleep 60"): ChildProcess {
  const joins = directories.map((directory) => `echo 0 > ${directory}/cgroup.procs`);
  return spawn("/bin/sh", ["-c", [...joins, script].join("; ")], { stdio: "ignore" });
}

function members(directory: string): string[] {
  return readFileSync(join(directory, "cgroup.procs"), "utf8").split("\n").filter(Boolean);
}

for (const root of present) {
  test(`create, write, kill and remove below ${root}`, async (t) => {
    const [directory = ""] = cgroupsOf(t, [root]);
    const nested = join(directory, "a", "b");
    const parents = [directory, join(directory, "a")];
    assert.deepEqual(await native.createCgroups({ directories: [nested], writes: [] }), parents);
    assert.deepEqual(await native.createCgroups({ directories: [nested], writes: [] }), []);
    const inner = processIn([nested], "(sleep 60 & sleep 60) & sleep 60");
    const outer = processIn(root === cgroup2 ? [join(directory, "a")] : [directory]);
    await until("members", () => members(nested).length === 4 && outer.pid !== undefined);
    const busy = await failure(() => native.removeCgroups({ directories: [directory], timeoutMs: 30 }));
    assert.deepEqual([busy.syscall, busy.errnoName], ["rmdir", "EBUSY"]);
    await native.killCgroups({ directories: [directory], timeoutMs: 5000 });
    assert.deepEqual(members(nested), []);
    await until("the ends", () => inner.signalCode === "SIGKILL" && outer.signalCode === "SIGKILL");
    await native.removeCgroups({ directories: [directory], timeoutMs: 5000 });
    assert.ok(!existsSync(directory));
    await native.removeCgroups({ directories: [directory], timeoutMs: 0 });
    await native.killCgroups({ directories: [directory], timeoutMs: 0 });
  });
}

test("all hierarchies in one call", async (t) => {
  const directories = cgroupsOf(t, present);
  await native.createCgroups({ directories, writes: [] });
  const child = processIn(directories);
  await until("members", () => directories.every((directory) => members(directory).length > 0));
  await native.killCgroups({ directories, timeoutMs: 5000 });
  await until("the end", () => child.signalCode === "SIGKILL");
  await native.removeCgroups({ directories, timeoutMs: 5000 });
});

test("a refused write is told with path and value, and what was made is removed", async (t) => {
  const [directory = ""] = cgroupsOf(t, present.slice(-1));
  const file = join(directory, "a", "pids.max");
  const error = await failure(() =>
    native.createCgroups({ directories: [join(directory, "a")], writes: [[file, "many"]] }),
  );
  assert.equal(error.subject, file);
  assert.match(error.message, /writing "many"/);
  assert.ok(!existsSync(directory));
});

test("what was there before a failing create stays", async (t) => {
  const [directory = ""] = cgroupsOf(t, present.slice(0, 1));
  mkdirSync(directory);
  await failure(() => native.createCgroups({ directories: [join(directory, "a")], writes: [["/no/such/file", "1"]] }));
  assert.ok(existsSync(directory) && !existsSync(join(directory, "a")));
});

test("frozen processes are killed, too", { skip: !existsSync("/sys/fs/cgroup/freezer") }, async (t) => {
  const [directory = ""] = cgroupsOf(t, ["/sys/fs/cgroup/freezer"]);
  const child_cgroup = join(directory, "child");
  await native.createCgroups({ directories: [child_cgroup], writes: [] });
  const child = processIn([child_cgroup]);
  await until("a member", () => members(child_cgroup).length > 0);
  writeFileSync(join(directory, "freezer.state"), "FROZEN");
  await until("frozen", () => readFileSync(join(directory, "freezer.state"), "utf8") === "FROZEN\n");
  await native.killCgroups({ directories: [directory], timeoutMs: 5000 });
  await until("the end", () => child.signalCode === "SIGKILL");
});

test("what forks all the time is killed on v1, too", { skip: v1.length === 0 }, async (t) => {
  const directories = cgroupsOf(t, ["/sys/fs/cgroup/freezer"]);
  await native.createCgroups({ directories, writes: [] });
  // Every process starts its successor and ends.
  const source = "f() { f & }; i=0; while [ $i -lt 8 ]; do f & i=$((i+1)); done; wait";
  processIn(directories, source);
  await until("members", () => members(directories[0] ?? "").length > 2);
  await native.killCgroups({ directories, timeoutMs: 10_000 });
  assert.deepEqual(members(directories[0] ?? ""), []);
});

test("a cgroup that holds the agent itself is not killed", async (t) => {
  const [directory = ""] = cgroupsOf(t, v1.slice(-1));
  if (directory === "") return t.skip("no v1 hierarchy");
  await native.createCgroups({ directories: [directory], writes: [[join(directory, "cgroup.procs"), "0"]] });
  // "0" is the thread that writes: here its whole process.
  const home = join(directory, "..", "cgroup.procs");
  try {
    const error = await failure(() => native.killCgroups({ directories: [directory], timeoutMs: 1000 }));
    assert.equal(error.errnoName, "EPERM");
  } finally {
    writeFileSync(home, String(process.pid));
  }
});

// struct bpf_insn as bytes: code, registers, offset, immediate.
function instruction(code: number, registers: number, offset: number, immediate: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt8(code, 0);
  bytes.writeUInt8(registers, 1);
  bytes.writeInt16LE(offset, 2);
  bytes.writeInt32LE(immediate, 4);
  return bytes;
}
const answer = (allowed: boolean) =>
  Buffer.concat([instruction(0xb7, 0, 0, allowed ? 1 : 0) /* r0 = */, instruction(0x95, 0, 0, 0) /* exit */]);

async function opensZero(directory: string): Promise<boolean> {
  const child = processIn([directory], "exec 3</dev/zero");
  return (await new Promise((resolve) => child.on("close", resolve))) === 0;
}

test("a device program decides, and the next one replaces it", { skip: cgroup2 === undefined }, async (t) => {
  const [directory = ""] = cgroupsOf(t, [cgroup2 ?? ""]);
  await native.createCgroups({ directories: [directory], writes: [] });
  assert.equal(await opensZero(directory), true);
  await native.attachDeviceProgram({ directory, instructions: answer(false) });
  assert.equal(await opensZero(directory), false);
  await native.attachDeviceProgram({ directory, instructions: answer(true) });
  assert.equal(await opensZero(directory), true);
  const error = await failure(() => native.attachDeviceProgram({ directory, instructions: answer(true).subarray(8) }));
  assert.match(error.message, /BPF_PROG_LOAD.*\n?.*r0|R0/i);
});
