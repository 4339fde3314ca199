/** cgroups of the running kernel, whichever version it has: limits that hold, numbers that are true, nothing left. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { native } from "../../native/binding.js";
import { assembleDeviceProgram } from "../../sandbox/cgroup/device-program.js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { BerthError, FailedPreconditionError, InvalidArgumentError } from "../../sandbox/errors.js";

const manager = openCgroupManager();
const root = `/berth-test-${process.pid}-${randomBytes(4).toString("hex")}`;
const mebibyte = 1 << 20;

const fileOf = (path: string, controller: string, name: string) => {
  const hierarchy = manager.hierarchies.find(({ controllers }) => controllers.includes(controller));
  assert.ok(hierarchy, `no ${controller} controller`);
  return join(hierarchy.mountPoint, path, name);
};
/** The content of v1's or v2's file of a controller. */
const read = (path: string, controller: string, names: { v1: string; v2: string }) => {
  const version = manager.hierarchies.find(({ controllers }) => controllers.includes(controller))?.version;
  return readFileSync(fileOf(path, controller, version === 2 ? names.v2 : names.v1), "utf8").trim();
};
const directories = (path: string) => manager.hierarchies.map(({ mountPoint }) => join(mountPoint, path));

/** Joins the cgroup as a container's init does, then becomes the program. */
function spawnIn(path: string, script: string): ChildProcess {
  const { tasksFiles, cgroup2Directory } = manager.handles(path);
  const files = [...tasksFiles, ...(cgroup2Directory === "" ? [] : [join(cgroup2Directory, "cgroup.procs")])];
  const joins = files.map((file) => `echo 0 > '${file}' || exit 99`).join("\n");
  return spawn("/bin/sh", ["-c", `${joins}\n${script}`], { stdio: ["ignore", "pipe", "pipe"] });
}

async function outcome(child: ChildProcess): Promise<{ code: number | null; signal: string | null; output: string }> {
  let output = "";
  child.stdout?.on("data", (data) => (output += data));
  child.stderr?.on("data", (data) => (output += data));
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  return { code, signal, output };
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not within 5 s: ${what}`);
    await sleep(5);
  }
}

const refused =
  (kind: typeof InvalidArgumentError | typeof FailedPreconditionError, message: RegExp) => (error: unknown) =>
    error instanceof kind && error instanceof BerthError && message.test(error.message);

describe(`cgroups (${manager.mode})`, () => {
  before(() => manager.create(`${root}/keep`, {}));
  after(async () => {
    await manager.kill(root);
    await manager.remove(root);
    assert.equal(manager.exists(root), false);
  });

  it("finds what the kernel has mounted", () => {
    const mounted = readFileSync("/proc/self/mountinfo", "utf8");
    for (const { mountPoint } of manager.hierarchies) assert.ok(mounted.includes(` ${mountPoint} `));
    for (const controller of ["cpu", "memory", "pids"]) assert.ok(!manager.missingControllers.includes(controller));
  });

  it("is made in every hierarchy, and a process can join it", async () => {
    const path = `${root}/join`;
    await manager.create(path, {});
    for (const directory of directories(path)) assert.ok(existsSync(directory), directory);
    const { output } = await outcome(spawnIn(path, "cat /proc/self/cgroup"));
    for (const line of output.trim().split("\n")) {
      const [, name = "", cgroup] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
      // one that is mounted nowhere, or in somebody's own mount namespace
      if (manager.missingControllers.includes(name)) continue;
      assert.equal(cgroup, path, name);
    }
    await manager.remove(path);
    for (const directory of directories(path)) assert.ok(!existsSync(directory), directory);
  });

  it("has the limits that were asked for, and later ones", async () => {
    const path = `${root}/limits`;
    await manager.create(path, {
      cpu: { shares: 2048, quota: 20_000, period: 50_000, cpus: "0", mems: "0" },
      memory: { limit: 64 * mebibyte },
      pids: { limit: 33 },
    });
    const shown = () => ({
      weight: read(path, "cpu", { v1: "cpu.shares", v2: "cpu.weight" }),
      memory: read(path, "memory", { v1: "memory.limit_in_bytes", v2: "memory.max" }),
      pids: read(path, "pids", { v1: "pids.max", v2: "pids.max" }),
      cpus: read(path, "cpuset", { v1: "cpuset.cpus", v2: "cpuset.cpus" }),
      bandwidth:
        manager.mode === "v2"
          ? readFileSync(fileOf(path, "cpu", "cpu.max"), "utf8").trim()
          : ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
              .map((name) => readFileSync(fileOf(path, "cpu", name), "utf8").trim())
              .join(" "),
    });
    const weight = (shares: string, converted: string) => (manager.mode === "v2" ? converted : shares);
    assert.deepEqual(shown(), {
      weight: weight("2048", "174"),
      memory: `${64 * mebibyte}`,
      pids: "33",
      cpus: "0",
      bandwidth: "20000 50000",
    });
    await manager.update(path, {
      cpu: { shares: 1024, quota: 300_000, period: 100_000 },
      memory: { limit: 128 * mebibyte },
      pids: { limit: 5 },
    });
    assert.deepEqual(shown(), {
      weight: weight("1024", "100"),
      memory: `${128 * mebibyte}`,
      pids: "5",
      cpus: "0",
      bandwidth: "300000 100000",
    });
    await manager.update(path, { cpu: { quota: 5000, period: 50_000 }, memory: { limit: 32 * mebibyte } });
    assert.deepEqual(shown(), { ...shown(), memory: `${32 * mebibyte}`, bandwidth: "5000 50000" });
    await manager.update(path, { memory: { limit: -1 } });
    assert.equal((await manager.sample([path])).get(path)?.memoryLimitBytes, undefined);
    await manager.remove(path);
  });

  it("moves the limits of memory and of swap up and down together", async (t) => {
    const path = `${root}/swap`;
    try {
      await manager.create(path, { memory: { limit: 32 * mebibyte, swap: 32 * mebibyte } });
    } catch (error) {
      if (error instanceof FailedPreconditionError) return t.skip(error.message);
      throw error;
    }
    for (const [limit, swap] of [
      [64, 80],
      [16, 16],
      [-1, -1],
      [32, 48],
    ] as const) {
      const bytes = (count: number) => (count < 0 ? -1 : count * mebibyte);
      await manager.update(path, { memory: { limit: bytes(limit), swap: bytes(swap) } });
      const sample = (await manager.sample([path])).get(path);
      assert.equal(sample?.memoryLimitBytes, limit < 0 ? undefined : limit * mebibyte);
      assert.equal(sample?.swapLimitBytes, limit < 0 ? undefined : (swap - limit) * mebibyte);
    }
    await manager.remove(path);
  });

  for (const [what, resources, kind, message] of [
    ["less memory than a page", { memory: { limit: 1000 } }, InvalidArgumentError, /^memory_limit_in_bytes 1000 /],
    ["a quota that is too short", { cpu: { quota: 10 } }, InvalidArgumentError, /^cpu_quota 10 .*: EINVAL$/],
    ["a period that is too short", { cpu: { period: 10 } }, InvalidArgumentError, /^cpu_period 10 .*: EINVAL$/],
    ["CPUs that are not there", { cpu: { cpus: "900" } }, InvalidArgumentError, /^cpuset_cpus "900" was refused/],
    ["CPUs that are no list", { cpu: { cpus: "x" } }, InvalidArgumentError, /^cpuset_cpus "x" was refused/],
    ["less swap than memory", { memory: { limit: mebibyte, swap: 4096 } }, InvalidArgumentError, /^memory_swap_limit/],
    ["huge page limits of no size", { hugepageLimits: [{ pageSize: "../x", limit: 1 }] }, InvalidArgumentError, /size/],
    ["files of others", { unified: { "cgroup.procs": "1" } }, InvalidArgumentError, /^unified: "cgroup.procs"/],
    ["a file that is not there", { unified: { "memory.nothing": "1" } }, FailedPreconditionError, /memory\.nothing/],
  ] as const) {
    it(`refuses ${what}, names the field and leaves nothing`, async () => {
      const path = `${root}/refused/${randomBytes(3).toString("hex")}`;
      await assert.rejects(manager.create(path, resources as never), refused(kind, message));
      assert.equal(manager.exists(`${root}/refused`), false);
    });
  }

  it("tells what the parent has, where the kernel refuses more than that", async (t) => {
    if (!manager.hierarchies.some(({ version, controllers }) => version === 1 && controllers.includes("cpu"))) {
      return t.skip("cgroup v2 takes such a limit, and the parent's holds");
    }
    const parent = `${root}/above`;
    await manager.create(parent, { cpu: { quota: 50_000, period: 100_000, cpus: "0" } });
    await assert.rejects(
      manager.create(`${parent}/below`, { cpu: { quota: 80_000, period: 100_000 } }),
      refused(InvalidArgumentError, /^cpu_quota 80000 .*: EINVAL; .*\/above has a quota of 50000 in 100000$/),
    );
    await assert.rejects(
      manager.create(`${parent}/below`, { cpu: { cpus: "0-4095" } }),
      refused(InvalidArgumentError, /^cpuset_cpus "0-4095" .*; the cgroup above has 0$/),
    );
    assert.equal(manager.exists(`${parent}/below`), false);
    await manager.remove(parent);
  });

  it("refuses a missing controller by its name", async () => {
    const missing = manager.missingControllers.includes("hugetlb");
    const making = manager.create(`${root}/huge`, {
      hugepageLimits: [{ pageSize: "2MB", limit: missing ? 2 * mebibyte : 0 }],
    });
    if (missing) await assert.rejects(making, /hugepage_limits 2MB cannot be applied: this host has no hugetlb/);
    else await making;
  });

  it("refuses paths that lead elsewhere", async () => {
    for (const path of ["relative", "/a/../b", "/a//b", "/"]) {
      await assert.rejects(manager.create(path, {}), InvalidArgumentError);
      await assert.rejects(manager.remove(path), InvalidArgumentError);
    }
  });

  it("answers the parents that it made, and takes away those that are empty", async () => {
    const path = `${root}/one/two/leaf`;
    const expected = [`${root}/one`, `${root}/one/two`].flatMap(directories).sort();
    assert.deepEqual(manager.missingParents(path).sort(), expected);
    const made = await manager.create(path, {});
    assert.deepEqual([...made].sort(), expected);
    assert.deepEqual(manager.missingParents(path), []);
    await manager.create(`${root}/one/other`, {});
    await manager.remove(path);
    const stayed = await manager.removeParents(made);
    assert.deepEqual([...stayed].sort(), directories(`${root}/one`).sort());
    await manager.remove(`${root}/one/other`);
    assert.deepEqual(await manager.removeParents(stayed), []);
    assert.equal(manager.exists(`${root}/one`), false);
  });

  it("never removes a directory outside of the hierarchies", async () => {
    await manager.removeParents(["/tmp", "/sys/fs/cgroup", `${manager.hierarchies[0]?.mountPoint}/../../../tmp`]);
    assert.ok(existsSync("/tmp"));
  });

  it("lets a process have only the devices of the list", async () => {
    const path = `${root}/devices`;
    await manager.create(path, {
      devices: [
        { allow: false, access: "rwm" },
        { allow: true, type: "c", major: 1, minor: 3, access: "rw" },
      ],
    });
    const script = "exec 3<>/dev/null && echo null; (exec 3</dev/zero) && echo zero; true";
    assert.match(
      (await outcome(spawnIn(path, script))).output,
      /^null\n[^\n]*\/dev\/zero: Operation not permitted\n$/i,
    );
    await manager.remove(path);
  });

  it("guards devices by a program in cgroup2, too", async (t) => {
    const path = `${root}/program`;
    await manager.create(path, {});
    const { cgroup2Directory: directory } = manager.handles(path);
    if (directory === "") return t.skip("no cgroup2 mount");
    const exceptions = [{ type: "c", major: 1, minor: 3, access: "rw" } as const];
    await native.attachDeviceProgram({
      directory,
      instructions: assembleDeviceProgram({ allowByDefault: false, exceptions }),
    });
    const script = "exec 3<>/dev/null && echo null; (exec 3</dev/zero) && echo zero; true";
    assert.match(
      (await outcome(spawnIn(path, script))).output,
      /^null\n[^\n]*\/dev\/zero: Operation not permitted\n$/i,
    );
    await manager.remove(path);
  });

  it("kills who takes more memory, and counts it", async () => {
    const path = `${root}/oom`;
    await manager.create(path, { memory: { limit: 16 * mebibyte } });
    assert.match(readFileSync(manager.handles(path).oomKillFile, "utf8"), /^oom_kill 0$/m);
    const { signal } = await outcome(spawnIn(path, "exec tail /dev/zero"));
    assert.equal(signal, "SIGKILL");
    assert.match(readFileSync(manager.handles(path).oomKillFile, "utf8"), /^oom_kill 1$/m);
    const sample = (await manager.sample([path])).get(path);
    assert.equal(sample?.oomKills, 1);
    assert.equal(sample?.memoryLimitBytes, 16 * mebibyte);
    assert.ok((sample?.memoryFailures ?? 0) > 0);
    await manager.remove(path);
  });

  it("tells what the kernel's files tell", async () => {
    const path = `${root}/sample`;
    await manager.create(path, { cpu: { quota: 20_000, period: 100_000 } });
    const child = spawnIn(
      path,
      "dd if=/dev/zero of=/dev/null bs=1M count=200 2>/dev/null; sleep 60 & sleep 60 & echo up; wait",
    );
    const end = outcome(child);
    await once(child.stdout ?? child, "data");
    const samples = await manager.sample([path, `${root}/not-there`]);
    assert.deepEqual([...samples.keys()], [path]);
    const sample = samples.get(path);
    assert.ok(sample);
    assert.equal(sample.processes, 3);
    assert.equal(sample.threads, 3);
    assert.ok((sample.cpuUsageNs ?? 0) > 1_000_000);
    assert.ok((sample.memoryRssBytes ?? 0) > 0);
    assert.ok((sample.memoryUsageBytes ?? 0) >= (sample.memoryWorkingSetBytes ?? Number.NaN));
    assert.equal(sample.oomKills, 0);
    assert.equal(sample.memoryLimitBytes, undefined);
    const told = read(path, "memory", { v1: "memory.usage_in_bytes", v2: "memory.current" });
    assert.ok(Math.abs(Number(told) - (sample.memoryUsageBytes ?? 0)) < mebibyte);
    await manager.kill(path);
    await end;
    await manager.remove(path);
  });

  it("says of a parent that holds processes why it cannot have cgroups below", async (t) => {
    if (manager.mode !== "v2") return t.skip("a rule of cgroup v2");
    const path = `${root}/occupied`;
    await manager.create(path, {});
    const child = spawnIn(path, "echo up; sleep 60");
    const end = outcome(child);
    await once(child.stdout ?? child, "data");
    await assert.rejects(
      manager.create(`${path}/below`, {}),
      refused(FailedPreconditionError, /has processes of its own/),
    );
    assert.equal(manager.exists(`${path}/below`), false);
    await manager.kill(path);
    await end;
    await manager.remove(path);
  });

  it("kills everything below, also what forks and what is frozen", async () => {
    const path = `${root}/kill`;
    await manager.create(`${path}/below`, {});
    await manager.create(`${path}/frozen`, {});
    const forking = spawnIn(`${path}/below`, "trap '' TERM INT HUP; while :; do sleep 1 & sleep 0.02; done");
    const frozen = spawnIn(`${path}/frozen`, "sleep 60");
    const forkingEnd = outcome(forking);
    const frozenEnd = outcome(frozen);
    const last = directories(path).at(-1);
    await until("both have joined", () =>
      [`${last}/frozen/cgroup.procs`, `${last}/below/cgroup.procs`].every((file) => readFileSync(file, "utf8") !== ""),
    );
    const freezer = directories(`${path}/frozen`)
      .flatMap((directory) => [`${directory}/freezer.state`, `${directory}/cgroup.freeze`])
      .find((file) => existsSync(file));
    if (freezer !== undefined) await native.writeFiles([[freezer, freezer.endsWith("state") ? "FROZEN" : "1"]]);
    await manager.kill(path);
    assert.equal((await forkingEnd).signal, "SIGKILL");
    assert.equal((await frozenEnd).signal, "SIGKILL");
    await manager.kill(path);
    await manager.remove(path);
    assert.equal(manager.exists(path), false);
    await manager.kill(path);
    await manager.remove(path);
  });

  it("is made within a millisecond or so, and fifty are read within five", async (t) => {
    const resources = {
      cpu: { shares: 100, quota: 50_000, period: 100_000 },
      memory: { limit: 64 * mebibyte },
      devices: [{ allow: false }, { allow: true, type: "c", major: 1, minor: 3, access: "rwm" }] as const,
    };
    const paths = Array.from({ length: 50 }, (_, index) => `${root}/many-${index}`);
    const creations: number[] = [];
    for (const path of paths) {
      const begun = performance.now();
      await manager.create(path, { ...resources, devices: [...resources.devices] });
      creations.push(performance.now() - begun);
    }
    const passes: number[] = [];
    for (let pass = 0; pass < 15; pass++) {
      const begun = performance.now();
      assert.equal((await manager.sample(paths)).size, 50);
      passes.push(performance.now() - begun);
    }
    await Promise.all(paths.map((path) => manager.remove(path)));
    const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
    t.diagnostic(`create: ${median(creations).toFixed(2)} ms, sample of 50: ${median(passes).toFixed(2)} ms`);
    // Far above the goal: an emulated machine is fifty times slower, and only a mistake of kind is slower than that.
    assert.ok(median(creations) < 250);
    assert.ok(median(passes) < 1000);
  });

  it("is made while others take the parent away that they no longer need", async () => {
    const parents = [`${root}/comes`, `${root}/comes/goes`];
    const directories = manager.hierarchies.flatMap(({ mountPoint }) => parents.map((path) => join(mountPoint, path)));
    const lane = async (number: number) => {
      for (let round = 0; round < 100; round++) {
        const path = `${root}/comes/goes/${number}`;
        await manager.create(path, {});
        await manager.remove(path);
        await manager.removeParents(directories);
      }
    };
    await Promise.all([0, 1, 2, 3, 4, 5].map(lane));
    await manager.remove(`${root}/comes`);
  });

  it("is made by many at once under a parent that none has made yet", async () => {
    const paths = Array.from({ length: 20 }, (_, index) => `${root}/crowd/sub/${index}`);
    await Promise.all(paths.map((path) => manager.create(path, { cpu: { shares: 10 } })));
    const { code } = await outcome(spawnIn(paths[7] ?? "", "exit 7"));
    assert.equal(code, 7);
    await manager.remove(`${root}/crowd`);
  });
});
