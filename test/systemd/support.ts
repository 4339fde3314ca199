/** What the checks under systemd share: what systemd and the disk know of Berth's scopes. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual, promisify } from "node:util";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { parseHierarchies, unifiedControllers } from "../../sandbox/cgroup/hierarchies.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { importBusybox, long } from "../support/workload.js";

export const run = promisify(execFile);
const hierarchies = parseHierarchies(readFileSync("/proc/self/mountinfo", "utf8"), unifiedControllers);
/** a slice as the kubelet has it for burstable pods */
export const burstable = "/kubepods.slice/kubepods-burstable.slice";
export const limit = 64 * 1024 * 1024;

/** An agent with the systemd driver and the busybox image. */
export async function startDriver(): Promise<TestAgent> {
  const agent = await startAgent({ flags: { "cgroup-driver": "systemd", "cgroup-root": "/berth.slice" } });
  await importBusybox(agent);
  return agent;
}

/** Of a container: `limit`. */
export const limits: runtime.v1.ILinuxContainerConfig = { resources: { memory_limit_in_bytes: long(limit) } };

/** What systemd knows of a scope. */
export async function propertiesOf(unit: string): Promise<Record<string, string>> {
  const names = ["ActiveState", "ControlGroup", "Delegate", "Slice", "TasksMax"];
  const { stdout } = await run("systemctl", ["show", unit, `--property=${names.join(",")}`]);
  const lines = stdout.trim().split("\n").sort();
  return Object.fromEntries(lines.map((line) => line.split("=") as [string, string]));
}

/** Waits until these are Berth's scopes, to systemd and on the disk: it forgets one a moment after its last process. */
export async function untilScopesAre(expected: readonly string[]): Promise<void> {
  for (const until = Date.now() + 20_000; ; await sleep(100)) {
    const found = { units: await scopes(), directories: scopeDirectories() };
    if (isDeepStrictEqual(found, { units: expected, directories: expected })) return;
    if (Date.now() > until) assert.deepEqual(found, { units: expected, directories: expected });
  }
}

/** Berth's scopes that systemd knows. */
async function scopes(): Promise<string[]> {
  const { stdout } = await run("systemctl", ["list-units", "--all", "--plain", "--no-legend", "berth-*.scope"]);
  return stdout
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "")
    .filter(Boolean)
    .sort();
}

function scopeDirectories(): string[] {
  const found = hierarchies.flatMap(({ mountPoint }) => {
    const slice = join(mountPoint, "berth.slice");
    return existsSync(slice) ? readdirSync(slice).filter((name) => name.endsWith(".scope")) : [];
  });
  return [...new Set(found)].sort();
}

/** The paths in the hierarchies that Berth uses. */
export function cgroupsOf(pid: number): Set<string> {
  const lines = readFileSync(`/proc/${pid}/cgroup`, "utf8").trim().split("\n");
  return new Set(lines.map((line) => line.split(":")[2] ?? ""));
}

/** Where the memory controller's hierarchy is mounted. */
export function memoryRoot(): string {
  return hierarchies.find(({ controllers }) => controllers.includes("memory"))?.mountPoint ?? "";
}

/** In bytes, of a cgroup's path in its hierarchy. */
export function memoryLimit(cgroup: string): number {
  const file = existsSync("/sys/fs/cgroup/cgroup.controllers") ? "memory.max" : "memory.limit_in_bytes";
  return Number(readFileSync(join(memoryRoot(), cgroup, file), "utf8"));
}
