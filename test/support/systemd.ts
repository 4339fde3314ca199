/**
 * A machine that systemd has booted, as far as its cgroups go: Debian's systemd as PID 1 of a PID namespace, with a cgroup
 * namespace, a mount namespace and a /run of its own, and D-Bus. The network, the files and the kernel are this machine's.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { native } from "../../native/binding.js";
import { parseHierarchies, unifiedControllers } from "../../sandbox/cgroup/hierarchies.js";
import type { Hierarchy } from "../../sandbox/cgroup/manager.js";
import { claimSlot, slotDirectory } from "./slot.js";

const systemd = "/lib/systemd/systemd";
const programs = [systemd, "/usr/bin/dbus-daemon", "/usr/bin/systemctl", "/usr/bin/unshare"];

/** For all checks of a file; the machine that runs them may be slow. */
const checksTimeoutMs = 270_000;

/** A virtual machine that systemd has booted (test/vm/guest/systemd) says so. */
const isBooted = process.env["BERTH_SYSTEMD"] === "booted";

/** A test of what test/systemd/NAME.ts finds under a systemd: each of its tests is told as one here. */
export function checkUnderSystemd(name: string): void {
  const checks = fileURLToPath(new URL(`../systemd/${name}.js`, import.meta.url));
  test("with systemd as PID 1", { skip: whatSystemdLacks() ?? false }, async (context) => {
    const command = [process.execPath, "--test-reporter=tap", checks] as const;
    const output = isBooted ? await runHere(command) : await runUnderSystemd(command, checksTimeoutMs);
    // a result begins each part; what is told of it follows
    const parts = output.split(/^(?= *(?:not ok|ok) \d+ - )/m).slice(1);
    assert.ok(parts.length > 4 && /^# fail \d+$/m.test(output), output);
    for (const part of parts) {
      const [, told = ""] = /\d+ - (.*)/.exec(part) ?? [];
      await context.test(told, () => assert.doesNotMatch(part, /^ *not ok/));
    }
  });
}

/** What this machine lacks for it, or undefined. */
function whatSystemdLacks(): string | undefined {
  const missing = programs.find((path) => !existsSync(path));
  return missing && `${missing} is not installed`;
}

async function runHere([program, ...args]: readonly [string, ...string[]]): Promise<string> {
  // in the form that is read here, not as a file of the runner's
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const options = { env, timeout: checksTimeoutMs, killSignal: "SIGKILL", maxBuffer: 1 << 26 } as const;
  // of a program that fails, the error has it
  const ended = await promisify(execFile)(program, args, options).catch(
    (error: { stdout?: string; stderr?: string }) => error,
  );
  return `${ended.stdout ?? ""}${ended.stderr ?? ""}`;
}

/**
 * Runs a program as a service of a systemd of its own, as root; answers what it has written to standard output and error.
 * Nothing of it is left, however it ends. An Error has systemd's console: the program did not end in time.
 */
async function runUnderSystemd(command: readonly string[], timeoutMs: number): Promise<string> {
  // the agents inside share this machine's slots, whose directory stays while one is taken
  const slot = claimSlot();
  const scratch = mkdtempSync("/tmp/berth-systemd-");
  const cgroup = `/${scratch.slice("/tmp/".length)}`;
  const hierarchies = parseHierarchies(readFileSync("/proc/self/mountinfo", "utf8"), unifiedControllers);
  const directories = hierarchies.map(({ mountPoint }) => join(mountPoint, cgroup));
  const paths = { units: join(scratch, "units"), output: join(scratch, "output"), ended: join(scratch, "ended") };
  let child: ChildProcess | undefined;
  try {
    writeUnits(paths, command);
    makeCgroups(hierarchies, cgroup);
    let console_ = "";
    child = spawn("/usr/bin/unshare", enter(directories, boot(hierarchies, scratch)), {
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (console_ += String(chunk)));
    for (const until = Date.now() + timeoutMs; !existsSync(paths.ended); await sleep(100)) {
      if (child.exitCode !== null) throw new Error(`systemd ended with ${child.exitCode}:\n${console_}`);
      if (Date.now() > until) throw new Error(`${command.join(" ")} has not ended:\n${console_}\n${outputOf(paths)}`);
    }
    return outputOf(paths);
  } finally {
    if (child !== undefined && child.exitCode === null) {
      // of unshare, which takes PID 1 and so the whole namespace with it
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    await native.killCgroups({ directories, timeoutMs: 10_000 });
    await native.removeCgroups({ directories, timeoutMs: 10_000 });
    rmSync(scratch, { recursive: true });
    slot.release();
  }
}

function outputOf({ output }: { output: string }): string {
  return existsSync(output) ? readFileSync(output, "utf8") : "";
}

/** Units of its own alone: what Debian's would start is not this machine's. */
function writeUnits(paths: { units: string; output: string; ended: string }, command: readonly string[]): void {
  const independent = "[Unit]\nDefaultDependencies=no\n";
  const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  const units = {
    "berth-test.target": `${independent}Requires=dbus.socket program.service\n`,
    "dbus.socket": `${independent}\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n`,
    "dbus.service": [
      `${independent}Requires=dbus.socket\n\n[Service]\nType=notify`,
      "ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation\n",
    ].join("\n"),
    "program.service": [
      `${independent}After=dbus.socket\n\n[Service]\nType=oneshot\nTimeoutStartSec=infinity\nEnvironment=${path}`,
      `ExecStart=-${command.map((word) => JSON.stringify(word)).join(" ")}`,
      `ExecStart=/usr/bin/touch ${paths.ended}`,
      `StandardOutput=append:${paths.output}\nStandardError=append:${paths.output}`,
      // pods that a test leaves are for the test to find
      "KillMode=process\nTasksMax=infinity\nDelegate=no\n",
    ].join("\n"),
  };
  mkdirSync(paths.units);
  for (const [name, text] of Object.entries(units)) writeFileSync(join(paths.units, name), text);
}

function makeCgroups(hierarchies: readonly Hierarchy[], cgroup: string): void {
  for (const { mountPoint, version, controllers } of hierarchies) {
    const directory = join(mountPoint, cgroup);
    const copy = (name: string) => writeFileSync(join(directory, name), readFileSync(join(mountPoint, name)));
    if (version === 2 && hierarchies.length === 1) {
      writeFileSync(join(mountPoint, "cgroup.subtree_control"), controllers.map((name) => `+${name}`).join(" "));
    }
    mkdirSync(directory);
    // version 1 gives a new cpuset nothing
    if (version === 1 && controllers.includes("cpuset")) for (const name of ["cpuset.cpus", "cpuset.mems"]) copy(name);
  }
}

/**
 * Shell scripts, each the next one's argument: PID 1 of new namespaces joins the cgroups, makes them the root of a cgroup
 * namespace, and goes on. The process that waits for it stays outside: cgroup v2 gives controllers from empty cgroups only.
 */
function enter(directories: readonly string[], then: string): string[] {
  const joins = directories.map((directory) => `echo 0 > ${directory}/cgroup.procs`);
  const namespaces = "--mount --pid --ipc --uts --fork --kill-child --propagation private";
  const script = [...joins, 'exec unshare --cgroup -- /bin/sh -ec "$0"'].join("\n");
  return [...`${namespaces} -- /bin/sh -ec`.split(" "), script, then];
}

/** A shell's script: shows the namespaces' own cgroups and /run, and becomes systemd. */
function boot(hierarchies: readonly Hierarchy[], scratch: string): string {
  const remounts = hierarchies.map(({ mountPoint, version, controllers, name }) => {
    const options = [...controllers, ...(name === "" ? [] : ["none", `name=${name}`])].join(",");
    const mount = version === 2 ? "mount -t cgroup2 cgroup2" : `mount -t cgroup -o ${options} cgroup`;
    return `umount ${mountPoint}; ${mount} ${mountPoint}`;
  });
  const run = join(scratch, "run");
  return [
    "mount -t proc proc /proc",
    ...remounts,
    `mkdir ${run} && mount -t tmpfs -o mode=755 tmpfs ${run}`,
    `mkdir ${run}/lock ${run}/dbus ${run}/${basename(slotDirectory)}`,
    `mount --bind ${slotDirectory} ${run}/${basename(slotDirectory)} && mount --rbind ${run} /run`,
    // where systemd writes the units of its callers, which it reads again at each reload
    `export container=berth-test SYSTEMD_UNIT_PATH=${scratch}/units:/run/systemd/transient`,
    `exec ${systemd} --unit=berth-test.target --log-target=console --log-level=notice --show-status=no`,
  ].join("\n");
}
