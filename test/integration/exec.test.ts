/** ExecSync: output, exit codes, time-outs that kill the whole tree, bounds. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { status } from "@grpc/grpc-js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { leftProcesses } from "../support/leaks.js";
import { takesBetween } from "../support/within.js";
import {
  containerStatus,
  createContainer,
  exec,
  fails,
  importBusybox,
  long,
  namespaceOf,
  out,
  type RunningPod,
  readLog,
  removePod,
  runContainer,
  runPod,
  sh,
  untilWritten,
} from "../support/workload.js";

let agent: TestAgent;
let pod: RunningPod;
let id: string;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
  pod = await runPod(agent);
  id = await runContainer(agent, pod, { envs: [{ key: "GIVEN", value: Buffer.from("yes") }], working_dir: "/tmp" });
});

after(() => agent.stop());

function processesOfPod(): string[] {
  return leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).map(({ what }) => what);
}

test("both streams and the exit code, byte for byte", async () => {
  const script = "printf 'a\\000b\\n'; printf 'error' >&2; exit 3";
  assert.deepEqual(await exec(agent, id, script), { stdout: "a\0b\n", stderr: "error", exitCode: 3 });
});

test("a process killed by a signal has 128 and its number", async () => {
  assert.equal((await exec(agent, id, "kill -KILL $$")).exitCode, 137);
});

test("it has the container's environment, directory, user, namespaces and no further descriptors", async () => {
  assert.equal(await out(agent, id, "echo $GIVEN; pwd; id -u"), "yes\n/tmp\n0");
  assert.equal(await out(agent, id, ["readlink", "/proc/1/ns/mnt"]), await namespaceOf(agent, id, "mnt"));
  assert.equal(await out(agent, id, ["readlink", "/proc/1/ns/pid"]), await namespaceOf(agent, id, "pid"));
  assert.equal(await out(agent, id, ["readlink", "/proc/1/ns/cgroup"]), await namespaceOf(agent, id, "cgroup"));
  assert.equal(await out(agent, id, ["ls", "/proc/self/fd"]), "0\n1\n2\n3");
  const status = (of: string) => out(agent, id, `grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups)' /proc/${of}/status`);
  assert.equal(await status("self"), await status("1"));
});

test("it begins as the container's program did: mask, signals, session, and what it may do", async () => {
  const status = (...names: string[]) => `grep -E '^(${names.join("|")}):' /proc/self/status | tr -d '\\t '`;
  const script = [
    "umask",
    status("SigBlk", "SigIgn", "NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Uid", "Gid"),
    status("Groups"),
    // of the shell: its session is its own
    "set -- $(cut -d' ' -f1,6 /proc/$$/stat); [ $1 = $2 ] && echo leads its session",
  ].join("; ");
  const asked = {
    run_as_user: { value: long(1234) },
    run_as_group: { value: long(56) },
    supplemental_groups: [long(7000), long(7001)],
    no_new_privs: true,
    seccomp: { profile_type: 0 },
    capabilities: { drop_capabilities: ["ALL"], add_capabilities: ["KILL"], add_ambient_capabilities: ["CHOWN"] },
  };
  const strict = await runContainer(agent, pod, {
    ...sh(`(${script}); echo told; sleep 1000`),
    linux: { security_context: asked },
  });
  await untilWritten(agent, strict, "told");
  const { log_path } = await containerStatus(agent, strict);
  const told = (await readLog(log_path ?? "")).map(({ text }) => text).slice(0, -1);
  const [none, chown] = ["0".repeat(16), `${"0".repeat(15)}1`];
  assert.deepEqual(told, [
    "0022",
    "Uid:1234123412341234",
    "Gid:56565656",
    `SigBlk:${none}`,
    `SigIgn:${none}`,
    `CapInh:${chown}`,
    `CapPrm:${chown}`,
    `CapEff:${chown}`,
    `CapBnd:${"0".repeat(14)}21`,
    `CapAmb:${chown}`,
    "NoNewPrivs:1",
    "Seccomp:2",
    "Groups:5670007001",
    "leads its session",
  ]);
  assert.deepEqual((await out(agent, strict, `(${script})`)).split("\n"), told);
});

test("it is in the container's cgroups", async () => {
  // the exec's own child cgroup is in the cgroup2 hierarchy, where a container sees "/" as its root
  const lines = (await out(agent, id, ["cat", "/proc/self/cgroup"])).split("\n");
  for (const line of lines.filter((line) => !line.startsWith("0:"))) assert.match(line, /:\/$/);
});

test("standard input is empty", async () => {
  assert.equal(await out(agent, id, ["wc", "-c"]), "0");
});

test("at its timeout the whole tree is dead, daemons included, within 0.2 s", async () => {
  const script = "setsid sleep 777 & (sleep 778 &) ; trap '' TERM; sleep 779";
  await takesBetween(1_000, 1_200, () => fails(exec(agent, id, script, 1), "DEADLINE_EXCEEDED", /1/));
  assert.ok(!processesOfPod().some((what) => /sleep 77[789]/.test(what)));
});

test("a background child that keeps the pipes open does not hold the answer back", async () => {
  const begun = performance.now();
  assert.equal(await out(agent, id, "sleep 666 & echo done"), "done");
  assert.ok(performance.now() - begun < 1_000);
  await out(agent, id, "killall sleep || true; true").catch(() => undefined);
});

test("output beyond what an answer can carry is cut, and memory stays bounded", async () => {
  const fresh = await runContainer(agent, pod);
  const { stdout, stderr, exitCode } = await exec(
    agent,
    fresh,
    "head -c 40000000 /dev/zero; head -c 40000000 /dev/zero >&2; exit 4",
    60,
  );
  assert.equal(exitCode, 4);
  assert.ok(stdout.length + stderr.length <= 16 * 1024 * 1024);
  assert.ok(stdout.length > 1_000_000);
  const cut = 80_000_000 - stdout.length - stderr.length;
  const text = await (await fetch(agent.metricsUrl)).text();
  assert.equal(Number(/^berth_exec_output_dropped_bytes_total (\d+)/m.exec(text)?.[1]), cut);
  assert.match(agent.logs(), new RegExp(`"container":"${fresh}"[^\\n]*"bytes":${cut}[^\\n]*output was cut`));
});

test("a program that is not there is an error that names it", async () => {
  const fresh = await runContainer(agent, pod);
  await fails(exec(agent, fresh, ["no-such-program"]), "INVALID_ARGUMENT", /no-such-program/);
});

test("only a running container can be exec'd into", async () => {
  const created = await createContainer(agent, pod);
  await fails(exec(agent, created, ["true"]), "FAILED_PRECONDITION", /created|running/);
  const ended = await runContainer(agent, pod, sh("true"));
  await exec(agent, ended, "sleep 5").catch(() => undefined);
  await fails(exec(agent, ended, ["true"]), "FAILED_PRECONDITION", /exited|running/);
  await fails(exec(agent, "f".repeat(64), ["true"]), "NOT_FOUND", /ffff/);
  await fails(exec(agent, created, []), "INVALID_ARGUMENT", /cmd is missing/);
});

test("an exec ends when its container does", async () => {
  const dying = await runContainer(agent, pod);
  const running = exec(agent, dying, ["sleep", "500"], 0);
  await exec(agent, dying, ["true"]);
  await agent.client.call("StopContainer", { container_id: dying });
  assert.equal((await running).exitCode, 137);
});

test("execs of a pod that is stopped are killed with it, or are told that the container does not run", async () => {
  for (let round = 0; round < 8; round++) {
    const other = await runPod(agent);
    const container = await runContainer(agent, other);
    const outcomes = Promise.all(
      Array.from({ length: 8 }, () =>
        exec(agent, container, ["sleep", "500"]).then(
          ({ exitCode }) => exitCode,
          ({ code }: { code: number }) => status[code],
        ),
      ),
    );
    await sleep(2 * round);
    await removePod(agent, other);
    for (const outcome of await outcomes) assert.match(String(outcome), /^(137|FAILED_PRECONDITION)$/);
  }
});

test("five hundred execs, eight at a time, leave no process, no cgroup and no descriptor", async () => {
  const fresh = await runContainer(agent, pod);
  await Promise.all(Array.from({ length: 8 }, () => exec(agent, fresh, ["true"])));
  const monitor = leftProcesses({ run: agent.paths.run, cgroupRoot: agent.cgroupRoot }).find(({ what }) =>
    what.includes("berth-monitor"),
  );
  const descriptors = () =>
    readdirSync(`/proc/${monitor?.pid}/fd`).length + readdirSync(`/proc/${agent.pid}/fd`).length;
  const before = { descriptors: descriptors(), processes: processesOfPod().length };
  const caller = async (): Promise<void> => {
    for (let count = 0; count < 62; count++) assert.equal((await exec(agent, fresh, ["true"])).exitCode, 0);
  };
  await Promise.all(Array.from({ length: 8 }, caller));
  // fewer: a connection of an earlier test's has been closed meanwhile
  const now = () => ({
    descriptors: Math.max(descriptors(), before.descriptors),
    processes: processesOfPod().length,
  });
  // an exec's end is told a moment before all of it is taken apart
  for (let tries = 0; tries < 50 && !isDeepStrictEqual(now(), before); tries++) await sleep(10);
  assert.deepEqual(now(), before);
});
