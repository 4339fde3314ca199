/** What an agent with private paths could leave on the machine, found in the kernel's own lists. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { native } from "../../native/binding.js";
import { tableName } from "../../sandbox/network/nftables.js";

export interface LeakScope {
  /** the directory that has all of the agent's paths in it */
  base: string;
  run: string;
  root: string;
  netns: string;
  cgroupRoot: string;
  bridge: string;
}

/**
 * The kernel takes a veth away some ten milliseconds after the namespace's last reference: with four busy loops and the
 * suite beside it, 0.3 s was the longest. What stays longer is kept by a TCP connection whose other side does not take what
 * was sent (seen: more than 200 s), until the agent deletes the interface after three to four seconds.
 */
const patienceMs = 20_000;

/** Fails with a list when anything of a pod is left. The agent may run, but may have no pods. */
export async function assertNothingLeft(scope: LeakScope): Promise<void> {
  const until = Date.now() + patienceMs;
  for (;;) {
    const left = await findLeft(scope);
    if (left.length === 0) return;
    if (Date.now() > until) throw new Error(`left on the machine:\n  ${left.join("\n  ")}`);
    await sleep(25);
  }
}

/** Everything of pods and containers that is there now, a line each. */
export async function findLeft(scope: LeakScope): Promise<string[]> {
  return [
    ...leftDirectories(scope),
    ...mountsBelow(scope.base).map((line) => `mount ${line}`),
    ...leftCgroups(scope.cgroupRoot).map((path) => `cgroup ${path}`),
    ...leftProcesses(scope).map(({ pid, what }) => `process ${pid} ${what}`),
    ...entries(`/sys/class/net/${scope.bridge}/brif`).map((name) => `interface ${name}`),
    ...(await leftPorts(scope.bridge)),
  ];
}

/** Processes that belong to the agent's pods: its monitors, and whoever is in their cgroups. */
export function leftProcesses({ run, cgroupRoot }: Pick<LeakScope, "run" | "cgroupRoot">): {
  pid: number;
  what: string;
}[] {
  return entries("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => !waitsForInit(pid))
    .map((pid) => ({ pid: Number(pid), command: read(`/proc/${pid}/cmdline`), cgroups: read(`/proc/${pid}/cgroup`) }))
    .filter(
      ({ command, cgroups }) =>
        (command.includes("berth-monitor") && command.includes(`${run}/pods/`)) || cgroups.includes(`:${cgroupRoot}/`),
    )
    .map(({ pid, command }) => ({ pid, what: command.replaceAll("\0", " ").trim() || "(no command line)" }));
}

/** A process that has ended, and whose parent has, too: it is nobody's but init's. */
function waitsForInit(pid: string): boolean {
  const stat = read(`/proc/${pid}/stat`);
  const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return state === "Z" && parent === "1";
}

/** The directories of a cgroup in every hierarchy, the innermost first. */
export function leftCgroups(cgroupRoot: string): string[] {
  return cgroupMounts().flatMap((mount) => directoriesBelow(join(mount, cgroupRoot)));
}

/** Mount points below a directory, and mounts of what is below it, in the host's mount namespace. */
export function mountsBelow(base: string): string[] {
  return mountLines().filter((line) => line.includes(base));
}

function leftDirectories({ run, root, netns }: LeakScope): string[] {
  const directories = [
    join(run, "pods"),
    join(root, "state", "pods"),
    join(root, "state", "containers"),
    join(root, "containers"),
    netns,
  ];
  return directories.flatMap((directory) => entries(directory).map((name) => join(directory, name)));
}

async function leftPorts(bridge: string): Promise<string[]> {
  if (!existsSync(`/sys/class/net/${bridge}`)) return [];
  const command = { list: { table: { family: "inet", name: tableName(bridge) } } };
  const output = await native.runNftables(JSON.stringify({ nftables: [command] }));
  const { nftables } = JSON.parse(output) as { nftables: Record<string, { name: string; elem?: unknown[] }>[] };
  return nftables
    .map((object) => object["map"] ?? object["set"])
    .filter((object) => object?.elem !== undefined && !/^(subnets|asking)/.test(object.name))
    .map((object) => `port rules ${object?.name} ${JSON.stringify(object?.elem)}`);
}

function cgroupMounts(): string[] {
  return mountLines()
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(" ")[4] ?? "");
}

function mountLines(): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8").trimEnd().split("\n");
}

function directoriesBelow(path: string): string[] {
  if (!existsSync(path)) return [];
  const children = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...children.flatMap((entry) => directoriesBelow(join(path, entry.name))), path];
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Empty when the process has ended meanwhile. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
