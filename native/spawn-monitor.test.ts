import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { native, type SpawnedProcess, type SpawnMonitorOptions } from "./binding.js";
import { compileProgram, failure, openDescriptors, scratchDirectory, until } from "./test-support.js";

// Stands in for the monitor: tells on stderr that it is there, and waits.
const waiter = `
#include <unistd.h>
int main(void) { write(2, "here\\n", 5); for (;;) pause(); }
`;

async function options(t: TestContext): Promise<SpawnMonitorOptions> {
  const directory = scratchDirectory(t);
  return {
    executable: await compileProgram(directory, "waiter", waiter),
    args: ["--name", "a b"],
    socketPath: join(directory, "m"),
    logPath: join(directory, "log"),
    namespaces: { network: false, ipc: false, uts: false, pid: false },
    networkPin: "",
    cgroupTasksFiles: [],
    cgroup2Directory: "",
  };
}

function ended(pidfd: number): Promise<[number | null, number | null]> {
  return new Promise((resolve) => {
    native.watchProcess(pidfd, (code, signal) => resolve([code, signal]));
  });
}

async function kill(process: SpawnedProcess): Promise<void> {
  const end = ended(process.pidfd);
  native.sendSignal(process.pidfd, 9);
  assert.deepEqual(await end, [null, 9]);
  native.closeDescriptor(process.pidfd);
}

test("the monitor runs detached, with its socket on descriptor 3 and nothing else of the agent's", async (t) => {
  const wanted = await options(t);
  const before = openDescriptors();
  const monitor = await native.spawnMonitor(wanted);
  t.after(() => kill(monitor));
  await until("the monitor's first word", () => readFileSync(wanted.logPath, "utf8") === "here\n");
  const proc = `/proc/${monitor.pid}`;
  assert.deepEqual(readdirSync(`${proc}/fd`), ["0", "1", "2", "3"]);
  assert.match(readlinkSync(`${proc}/fd/3`), /^socket:/);
  assert.equal(readlinkSync(`${proc}/fd/0`), "/dev/null");
  assert.equal(readlinkSync(`${proc}/cwd`), "/");
  const argv = readFileSync(`${proc}/cmdline`, "utf8").split("\0").slice(0, -1);
  assert.deepEqual(argv, [wanted.executable, "--name", "a b", "--listen-fd", "3"]);
  assert.equal(readFileSync(`${proc}/environ`, "utf8"), "");
  const status = readFileSync(`${proc}/status`, "utf8");
  for (const mask of ["SigBlk", "SigIgn", "SigCgt"]) assert.match(status, new RegExp(`${mask}:\\s0000000000000000\n`));
  const session = readFileSync(`${proc}/stat`, "utf8").split(") ")[1]?.split(" ")[3];
  assert.equal(session, String(monitor.pid));
  assert.equal(statSync(wanted.socketPath).mode & 0o777, 0o600);
  assert.equal(openDescriptors(), before + 1 /* the pidfd */ + 1 /* the read-only clone of the program */);
});

test("the namespaces asked for are new, the others are the agent's", async (t) => {
  const wanted = await options(t);
  const monitor = await native.spawnMonitor({
    ...wanted,
    namespaces: { network: true, ipc: true, uts: false, pid: true },
  });
  t.after(() => kill(monitor));
  const differs = (kind: string) =>
    readlinkSync(`/proc/${monitor.pid}/ns/${kind}`) !== readlinkSync(`/proc/self/ns/${kind}`);
  assert.deepEqual(["net", "ipc", "uts", "pid", "mnt", "user"].map(differs), [true, true, false, true, false, false]);
});

test("its network namespace is pinned to a file and unpinned, twice", async (t) => {
  const wanted = await options(t);
  const networkPin = join(scratchDirectory(t), "a", "b", "net");
  t.after(() => native.unpinNamespace(networkPin));
  const withNetwork = { ...wanted, namespaces: { ...wanted.namespaces, network: true }, networkPin };
  const monitor = await native.spawnMonitor(withNetwork);
  const { ino } = statSync(`/proc/${monitor.pid}/ns/net`);
  await kill(monitor);
  assert.deepEqual([statSync(networkPin).ino, statSync(networkPin).mode & 0o777], [ino, 0o444]);
  for (let times = 0; times < 2; times++) {
    await native.unpinNamespace(networkPin);
    assert.ok(!existsSync(networkPin));
  }
});

test("a pin that cannot be made ends the monitor, and leaves nothing", async (t) => {
  const wanted = await options(t);
  const networkPin = join(scratchDirectory(t), "net");
  writeFileSync(networkPin, "somebody's");
  const before = openDescriptors();
  const error = await failure(() => native.spawnMonitor({ ...wanted, networkPin }));
  assert.deepEqual([error.errnoName, error.subject], ["EEXIST", networkPin]);
  assert.equal(readFileSync(networkPin, "utf8"), "somebody's");
  assert.ok(!existsSync(wanted.socketPath));
  assert.ok(openDescriptors() <= before + 1 /* the read-only clone of the program */);
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8");
  assert.equal(children.trim(), "");
});

test("a user namespace owns net, IPC and UTS; the monitor stays in the host's", async (t) => {
  const wanted = await options(t);
  const userNamespace = {
    uids: { containerId: 0, hostId: 300_000, length: 65_536 },
    gids: { containerId: 0, hostId: 400_000, length: 10 },
  };
  const before = openDescriptors();
  const monitor = await native.spawnMonitor({
    ...wanted,
    namespaces: { network: true, ipc: true, uts: true, pid: true },
    userNamespace,
  });
  t.after(() => kill(monitor));
  await until("the monitor's first word", () => readFileSync(wanted.logPath, "utf8") === "here\n");
  const proc = `/proc/${monitor.pid}`;
  const argv = readFileSync(`${proc}/cmdline`, "utf8").split("\0").slice(3, -1);
  const added = ["--user-namespace-fd", "5", "--uid-map", "0:300000:65536", "--gid-map", "0:400000:10"];
  assert.deepEqual(argv, ["--listen-fd", "3", ...added]);
  assert.deepEqual(readdirSync(`${proc}/fd`), ["0", "1", "2", "3", "5"]);
  assert.equal(readlinkSync(`${proc}/ns/user`), readlinkSync("/proc/self/ns/user"));
  for (const kind of ["net", "ipc", "uts"]) {
    const owner = native.openOwningUserNamespace(`${proc}/ns/${kind}`);
    assert.equal(readlinkSync(`/proc/self/fd/${owner}`), readlinkSync(`${proc}/fd/5`), kind);
    native.closeDescriptor(owner);
  }
  assert.ok(openDescriptors() <= before + 2);
  // what held the namespaces is gone
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").split(" ").filter(Boolean);
  for (const child of children) {
    if (Number(child) !== monitor.pid) assert.ok(!existsSync(`/proc/${child}`), `a child is left: ${child}`);
  }
});

test("mappings that the kernel refuses are named, and nothing is left", async (t) => {
  const wanted = await options(t);
  const range = { containerId: 0, hostId: 0, length: 0 };
  const before = openDescriptors();
  const error = await failure(() => native.spawnMonitor({ ...wanted, userNamespace: { uids: range, gids: range } }));
  assert.deepEqual([error.syscall, error.errnoName], ["write", "EINVAL"]);
  assert.match(error.subject, /uid_map/);
  assert.ok(!existsSync(wanted.socketPath));
  assert.ok(openDescriptors() <= before);
});

test("the monitor's program cannot be written to through /proc, not even after its end", async (t) => {
  const wanted = await options(t);
  const monitor = await native.spawnMonitor(wanted);
  const held = native.openPath(`/proc/${monitor.pid}/exe`);
  t.after(() => native.closeDescriptor(held));
  assert.throws(() => closeSync(openSync(`/proc/${monitor.pid}/exe`, "r+")), { code: /^(ETXTBSY|EROFS)$/ });
  await kill(monitor);
  assert.throws(() => closeSync(openSync(`/proc/self/fd/${held}`, "r+")), { code: "EROFS" });
});

test("a program that was replaced is noticed", async (t) => {
  const wanted = await options(t);
  await kill(await native.spawnMonitor(wanted));
  await compileProgram(join(wanted.executable, ".."), "waiter", "int main(void) { return 7; }");
  const monitor = await native.spawnMonitor(wanted);
  assert.deepEqual(await ended(monitor.pidfd), [7, null]);
  native.closeDescriptor(monitor.pidfd);
});

test("cgroups are joined: v1 by tasks files, cgroup2 by the clone", async (t) => {
  const wanted = await options(t);
  const cgroup2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].find((root) => existsSync(join(root, "cgroup.procs")));
  const v1 = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory"].filter((root) => existsSync(join(root, "tasks")));
  const name = `berth-spawn-${process.pid}`;
  const directories = [...v1, ...(cgroup2 === undefined ? [] : [cgroup2])].map((root) => join(root, name));
  await native.createCgroups({ directories, writes: [] });
  t.after(() => native.removeCgroups({ directories, timeoutMs: 2000 }));
  const monitor = await native.spawnMonitor({
    ...wanted,
    cgroupTasksFiles: v1.map((root) => join(root, name, "tasks")),
    cgroup2Directory: cgroup2 === undefined ? "" : join(cgroup2, name),
  });
  for (const directory of directories) {
    assert.equal(readFileSync(join(directory, "cgroup.procs"), "utf8"), `${monitor.pid}\n`, directory);
  }
  await kill(monitor);
});

test("a failing step names itself, and leaves no socket, no process and no descriptor", async (t) => {
  const wanted = await options(t);
  const text = join(wanted.executable, "..", "text");
  writeFileSync(text, "no program", { mode: 0o755 });
  const cases: [Partial<SpawnMonitorOptions>, string, string, string][] = [
    [{ executable: "/no/such/monitor" }, "stat", "ENOENT", "/no/such/monitor"],
    [{ executable: text }, "execveat", "ENOEXEC", text],
    [{ cgroupTasksFiles: ["/sys/fs/cgroup/none/tasks"] }, "join cgroup", "ENOENT", "/sys/fs/cgroup/none/tasks"],
    [{ cgroup2Directory: "/sys/fs/cgroup/none" }, "open", "ENOENT", "/sys/fs/cgroup/none"],
    [{ logPath: "/no/such/log" }, "open", "ENOENT", "/no/such/log"],
    [{ socketPath: "/no/such/m" }, "open", "ENOENT", "/no/such/"],
  ];
  await failure(() => native.spawnMonitor({ ...wanted, ...cases[1]?.[0] })); // from here on the clone of `text` is kept
  for (const [change, syscall, errnoName, subject] of cases) {
    const before = openDescriptors();
    const error = await failure(() => native.spawnMonitor({ ...wanted, ...change }));
    assert.deepEqual([error.syscall, error.errnoName, error.subject], [syscall, errnoName, subject]);
    assert.ok(!existsSync(wanted.socketPath));
    assert.ok(openDescriptors() <= before);
  }
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8");
  for (const child of children.split(" ").filter(Boolean)) {
    assert.doesNotMatch(readFileSync(`/proc/${child}/stat`, "utf8"), /\) Z /);
  }
});

test("the socket's path may be longer than sun_path; a stale socket is replaced, a file is not", async (t) => {
  const wanted = await options(t);
  const deep = join(wanted.socketPath, "..", "d".repeat(120), "e".repeat(120));
  mkdirSync(deep, { recursive: true });
  const socketPath = join(deep, "m");
  await kill(await native.spawnMonitor({ ...wanted, socketPath }));
  assert.ok(existsSync(socketPath));
  await kill(await native.spawnMonitor({ ...wanted, socketPath }));
  writeFileSync(join(deep, "file"), "precious");
  const error = await failure(() => native.spawnMonitor({ ...wanted, socketPath: join(deep, "file") }));
  assert.equal(error.errnoName, "EEXIST");
  assert.equal(readFileSync(join(deep, "file"), "utf8"), "precious");
});

test("the event loop turns while many monitors are started at once", async (t) => {
  const wanted = await options(t);
  const monitors = await Promise.all(
    Array.from({ length: 20 }, (_, i) => native.spawnMonitor({ ...wanted, socketPath: `${wanted.socketPath}${i}` })),
  );
  assert.equal(new Set(monitors.map((monitor) => monitor.pid)).size, 20);
  await Promise.all(monitors.map(kill));
});

test("the end of a process that is not our child has no code", async (t) => {
  const wanted = await options(t);
  // The shell ends at once; its child becomes somebody else's.
  const shell = spawn("/bin/sh", ["-c", "sleep 30 >/dev/null 2>&1 & echo $!"]);
  let output = "";
  shell.stdout.on("data", (data) => (output += data));
  await new Promise((resolve) => shell.on("close", resolve));
  const pidfd = native.openProcess(Number(output));
  const end = ended(pidfd);
  native.sendSignal(pidfd, 15);
  assert.deepEqual(await end, [null, null]);
  native.closeDescriptor(pidfd);
  assert.ok(wanted);
});

test("a watch that is closed does not call back", async (t) => {
  const monitor = await native.spawnMonitor(await options(t));
  const watch = native.watchProcess(monitor.pidfd, () => assert.fail("called back after close"));
  watch.close();
  watch.close();
  await kill(monitor);
});

test("processes that are not there", async () => {
  assert.equal((await failure(() => native.openProcess(0x3ffffff))).errnoName, "ESRCH");
  assert.equal((await failure(() => native.sendSignal(-1, 15))).errnoName, "EBADF");
});
