/** What the attacks share: an agent and a pod to attack, canaries on the host, programs of the attacker, rounds of races. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { status } from "@grpc/grpc-js";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { native, programs } from "../../native/binding.js";
import { supportsUserNamespaces } from "../../sandbox/user-namespaces.js";
import { type AgentOptions, startAgent, type TestAgent } from "../support/agent.js";
import type { TarEntry } from "../support/tar-writer.js";
import {
  createContainer,
  importBusybox,
  NamespaceMode,
  type RunningPod,
  runContainer,
  runPod,
  waitExited,
} from "../support/workload.js";

/** A directory of the host that no attacker may see into or change. */
export interface Canary {
  directory: string;
  /** content of the file "secret" in it */
  secret: string;
  assertUnchanged(): void;
}

export interface Target {
  readonly agent: TestAgent;
  readonly pod: RunningPod;
  readonly canary: Canary;
}

/**
 * An agent with the busybox image and a pod, for one test file. At its end the canaries of the host are looked at: a
 * directory, the monitor's executable, and the kernel's core_pattern.
 * @param prepare what the file needs besides, before its first test
 */
export function attackTarget(
  prepare: (target: Target) => Promise<unknown> = async () => undefined,
  options: AgentOptions = {},
): Target {
  let agent: TestAgent | undefined;
  let pod: RunningPod | undefined;
  let canary: Canary | undefined;
  const describeHost = watchHost();
  const hostBefore = describeHost();
  const hooks = mkdtempSync(join(tmpdir(), "berth-attack-hooks-"));
  writeFileSync(join(hooks, "hook.json"), JSON.stringify(hookFile));
  before(async () => {
    agent = await startAgent({ ...options, flags: { "hooks-dir": hooks, ...options.flags } });
    await importBusybox(agent);
    pod = await runPod(agent);
    canary = makeCanary(join(agent.paths.base, "victim"));
    await prepare(target);
  });
  after(async () => {
    try {
      canary?.assertUnchanged();
      assert.deepEqual(describeHost(), hostBefore);
    } finally {
      await agent?.stop();
      rmSync(hooks, { recursive: true });
    }
  });
  const target: Target = {
    get agent() {
      return there(agent);
    },
    get pod() {
      return there(pod);
    },
    get canary() {
      return there(canary);
    },
  };
  return target;
}

/** For the containers with this annotation alone. */
const hookFile = {
  version: "1.0.0",
  hook: { path: "/bin/true" },
  when: { annotations: { "^attack$": "^with hooks$" } },
  stages: ["createRuntime"],
};

/** A way in which a container is built. */
export interface Site {
  what: string;
  pod: RunningPod;
  configOf(config: runtime.v1.IContainerConfig): runtime.v1.IContainerConfig;
}

/**
 * In a plain pod the host's root has gone before anything is mounted. Where there are hooks, and in a pod with a user
 * namespace (which this machine may not have), it is there until the end, for a path to lead to.
 */
export async function sitesOf({ agent, pod }: Target): Promise<Site[]> {
  const annotations = { attack: "with hooks" };
  const sites: Site[] = [
    { what: "as ever", pod, configOf: (config) => config },
    { what: "with hooks", pod, configOf: (config) => ({ ...config, annotations }) },
  ];
  if (!supportsUserNamespaces(native.probeFeatures())) return sites;
  const ids = [{ container_id: 0, host_id: 500_000, length: 65_536 }];
  const userns_options = { mode: NamespaceMode.POD, uids: ids, gids: ids };
  const mapped = await runPod(agent, { linux: { security_context: { namespace_options: { userns_options } } } });
  const map = (mount: runtime.v1.IMount) => ({ ...mount, uidMappings: ids, gidMappings: ids });
  sites.push({
    what: "in a user namespace",
    pod: mapped,
    configOf: (config) => ({ ...config, mounts: config.mounts?.map(map) ?? null }),
  });
  return sites;
}

export interface Attempt {
  /** of the first call that failed: its code's name and its sentence */
  refused?: { code: string; sentence: string };
  /** undefined when a call failed */
  exitCode?: number;
  output: string;
}

/** Makes a container, runs it to its end, removes it. An error of a call is an outcome. */
export async function attempt(
  { agent, pod }: Target,
  config: runtime.v1.IContainerConfig,
  inPod: RunningPod = pod,
): Promise<Attempt> {
  let id = "";
  try {
    id = await createContainer(agent, inPod, config);
    await agent.client.call("StartContainer", { container_id: id });
    const { exit_code, log_path } = await waitExited(agent, id);
    const output = exit_code === 0 && !config.log_path ? "" : readFileSync(log_path ?? "", "utf8");
    return { exitCode: exit_code ?? 0, output };
  } catch (error) {
    const { code, details } = error as { code?: number; details?: string };
    if (code === undefined) throw error;
    return { refused: { code: status[code] ?? String(code), sentence: details ?? "" }, output: "" };
  } finally {
    if (id !== "") await agent.client.call("RemoveContainer", { container_id: id });
  }
}

/** The attempt must have been refused so. */
export function assertRefused({ refused, exitCode, output }: Attempt, code: string, sentence: RegExp): void {
  assert.ok(refused, `it ran, and ended with ${exitCode}: ${output}`);
  assert.equal(refused.code, code, refused.sentence);
  assert.match(refused.sentence, sentence);
}

/** How often a race is run: rarely by default, as often as given by BERTH_ATTACK_ROUNDS, "full" for all `full` times. */
export function rounds(quick: number, full: number): number {
  const asked = process.env["BERTH_ATTACK_ROUNDS"];
  if (asked === undefined || asked === "") return quick;
  return asked === "full" ? full : Math.min(full, Number(asked));
}

/** Runs something `count` times, so many at once. */
export async function repeat(count: number, atOnce: number, run: (round: number) => Promise<void>): Promise<void> {
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next < count) await run(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, caller));
}

/** Compiles a C program of the attacker, static: it runs in any image. */
export function compile(agent: TestAgent, name: string, source: string): Buffer {
  const file = join(agent.paths.base, name);
  writeFileSync(`${file}.c`, source);
  execFileSync("cc", ["-static", "-O1", "-w", "-o", file, `${file}.c`]);
  return readFileSync(file);
}

export function executable(path: string, content: string | Uint8Array): TarEntry {
  return { path, mode: 0o755, content };
}

/** Exchanges the two names in its arguments for each other, again and again, as fast as it can and while both are there. */
const swapperSource = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char** names) {
  for (;;) {
    for (int i = 0; i < 50; ++i) {
      if (syscall(SYS_renameat2, AT_FDCWD, names[1], AT_FDCWD, names[2], 2) != 0 && errno != ENOENT) {
        perror("renameat2");
        return 1;
      }
    }
    sched_yield();
  }
}`;

export const swapperName = "berth.test/swapper:1";

/** An image that has /swapper. */
export async function importSwapper(agent: TestAgent): Promise<void> {
  await importBusybox(agent, swapperName, {
    layers: [[executable("swapper", compile(agent, "swapper", swapperSource))]],
  });
}

/**
 * Starts a container that exchanges two names for each other in a volume.
 * @returns its id
 */
export async function startSwapper(
  { agent, pod }: Target,
  volume: string,
  first: string,
  second: string,
): Promise<string> {
  return runContainer(agent, pod, {
    image: { image: swapperName },
    command: ["/swapper", `/volume/${first}`, `/volume/${second}`],
    mounts: [{ container_path: "/volume", host_path: volume }],
  });
}

export function makeCanary(directory: string): Canary {
  const secret = randomBytes(16).toString("hex");
  mkdirSync(join(directory, "inside"), { recursive: true, mode: 0o755 });
  writeFileSync(join(directory, "secret"), secret, { mode: 0o600 });
  writeFileSync(join(directory, "inside", "file"), "canary\n", { mode: 0o644 });
  const before = describeTree(directory);
  return {
    directory,
    secret,
    assertUnchanged: () => assert.deepEqual(describeTree(directory), before),
  };
}

/** Everything below a path that an attacker could have changed, a line each. */
export function describeTree(path: string): string[] {
  const found = lstatSync(path, { bigint: true });
  const content = found.isFile() ? digest(path) : found.isSymbolicLink() ? readlinkSync(path) : "";
  const own = [path, found.mode.toString(8), found.uid, found.gid, found.mtimeNs, found.ctimeNs, content].join(" ");
  if (!found.isDirectory()) return [own];
  return [
    own,
    ...readdirSync(path)
      .sort()
      .flatMap((name) => describeTree(join(path, name))),
  ];
}

/** Opened once: a new build, or an administrator, puts other files in their places, and attacks nobody. */
function watchHost(): () => Record<string, string> {
  const monitor = openSync(programs.monitor, "r");
  const passwd = openSync("/etc/passwd", "r");
  return () => ({
    core_pattern: readFileSync("/proc/sys/kernel/core_pattern", "utf8"),
    monitor: digest(`/proc/self/fd/${monitor}`),
    passwd: digest(`/proc/self/fd/${passwd}`),
  });
}

function digest(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

function there<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("it is made before the first test");
  return value;
}
