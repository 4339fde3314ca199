/** The cgroup manager of this host: of cgroup v1, v2, or a hybrid of both. */
import { existsSync, readFileSync } from "node:fs";
import { readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { type FileRead, native } from "../../native/binding.js";
import { FailedPreconditionError } from "../errors.js";
import type { LinuxResources } from "../spec/oci.js";
import { assembleDeviceProgram } from "./device-program.js";
import { devicePolicy } from "./device-rules.js";
import { parseHierarchies, unifiedControllers } from "./hierarchies.js";
import type { CgroupHandles, CgroupLimits, CgroupManager, Hierarchy } from "./manager.js";
import type { CgroupPart } from "./part.js";
import { checkCgroupPath, parentsOf } from "./paths.js";
import { checkResources } from "./resources.js";
import { openSamples } from "./samples.js";
import { holdsByItself, isOfPreparation, refusal, writesOf } from "./settings.js";
import { v1Part } from "./v1.js";
import { v2Part } from "./v2.js";

/** What Berth has a use for, by version: v2 counts CPU time and guards devices without a controller. */
const wantedControllers = {
  v1: ["cpu", "cpuacct", "cpuset", "devices", "hugetlb", "memory", "pids"],
  v2: ["cpu", "cpuset", "hugetlb", "memory", "pids"],
} as const;

/** Killing waits for what dies in the kernel: a big process gives its memory back first. */
const killTimeoutMs = 10_000;
/** A cgroup stays busy for a moment after its last process was reaped. */
const removeTimeoutMs = 2_000;

/** A cgroup is prepared so often, when its parents change meanwhile. */
const mostTries = 5;

export interface CgroupManagerOptions {
  mountinfoPath?: string;
}

/** Finds the hierarchies in mountinfo. FailedPreconditionError: none is mounted. */
export function openCgroupManager(options: CgroupManagerOptions = {}): CgroupManager {
  const { mountinfoPath = "/proc/self/mountinfo" } = options;
  const hierarchies = usedHierarchies(parseHierarchies(readFileSync(mountinfoPath, "utf8"), unifiedControllers));
  const first = hierarchies.filter(({ version }) => version === 1);
  const unified = hierarchies.find(({ version }) => version === 2);
  const parts: CgroupPart[] = [];
  // The unified side is read first: where both count, v1's controller counts finer.
  if (unified !== undefined) parts.push(v2Part(unified));
  if (first.length > 0) parts.push(v1Part(first));
  if (parts.length === 0) throw new FailedPreconditionError(`no cgroup hierarchy is mounted (${mountinfoPath})`);
  return managerOf(parts, hierarchies, unified?.mountPoint ?? "");
}

/**
 * A hybrid host's cgroup2 may have a controller that no v1 hierarchy has taken, hugetlb most often. Handing that down
 * would bar processes from every parent cgroup, other people's too: only what Berth cannot do without is worth it.
 */
function usedHierarchies(hierarchies: readonly Hierarchy[]): Hierarchy[] {
  if (hierarchies.length === 1) return [...hierarchies];
  const needed = ["cpu", "cpuset", "memory", "pids"];
  return hierarchies.map((hierarchy) =>
    hierarchy.version === 1
      ? hierarchy
      : { ...hierarchy, controllers: hierarchy.controllers.filter((name) => needed.includes(name)) },
  );
}

function managerOf(
  parts: readonly CgroupPart[],
  hierarchies: readonly Hierarchy[],
  unifiedRoot: string,
): CgroupManager {
  const mode = unifiedRoot === "" ? "v1" : hierarchies.length === 1 ? "v2" : "hybrid";
  const controllers = new Set(parts.flatMap((part) => [...part.controllers]));
  const roots = hierarchies.map(({ mountPoint }) => mountPoint);
  // v1's freezer holds back even SIGKILL: it is thawed first, and the others are waited for after that.
  const rootsToKill = hierarchies
    .toSorted((a, b) => Number(b.controllers.includes("freezer")) - Number(a.controllers.includes("freezer")))
    .map(({ mountPoint }) => mountPoint);
  const tasksRoots = hierarchies.filter(({ version }) => version === 1).map(({ mountPoint }) => mountPoint);
  const samples = openSamples(parts.flatMap(({ sampleFiles }) => sampleFiles));
  const memory = hierarchies.find((hierarchy) => hierarchy.controllers.includes("memory"));

  const settingsOf = (path: string, resources: LinuxResources, how: { fresh: boolean }) =>
    parts.flatMap((part) => part.settings(path, resources, how)).filter((setting) => !holdsByItself(setting));

  function missingParents(path: string): string[] {
    checkCgroupPath(path);
    const missing: string[] = [];
    // From the inside out: most often the innermost parent is there, and so are all others.
    for (const parent of parentsOf(path).reverse()) {
      const directories = roots.map((root) => join(root, parent)).filter((directory) => !existsSync(directory));
      if (directories.length === 0) break;
      missing.unshift(...directories);
    }
    return missing;
  }

  return {
    mode,
    hierarchies,
    missingControllers: wantedControllers[mode === "v2" ? "v2" : "v1"].filter((name) => !controllers.has(name)),
    missingParents,

    async create(path, resources, { withoutControllers = false, onMissingParents } = {}) {
      checkCgroupPath(path);
      checkNeeds(resources, hierarchies);
      // what the kernel says: parents that were there a moment ago may have gone
      let made: string[];
      const prepared = withoutControllers ? parts.filter(isFirstVersion) : parts;
      const directories = roots.map((root) => join(root, path));
      for (let tries = 1; ; tries++) {
        const missing = onMissingParents === undefined ? [] : missingParents(path);
        if (missing.length > 0) onMissingParents?.(missing);
        const settings = [
          ...prepared.flatMap((part) => part.preparation(path)),
          ...settingsOf(path, resources, { fresh: true }),
        ];
        try {
          made = await native.createCgroups({ directories, writes: writesOf(settings) });
          break;
        } catch (error) {
          // somebody has removed the empty parent after it was looked at, and it was made anew, without what it had
          if (tries < mostTries && isOfPreparation(error, settings)) continue;
          throw refusal(error, settings, path);
        }
      }
      if (!controllers.has("devices")) {
        try {
          await guardDevices(join(unifiedRoot, path), resources);
        } catch (error) {
          await native.removeCgroups({ directories: [...directories, ...made.reverse()], timeoutMs: removeTimeoutMs });
          throw new FailedPreconditionError(`devices of cgroup ${path} cannot be guarded`, { cause: error });
        }
      }
      return made;
    },

    async enter(path, pid) {
      checkCgroupPath(path);
      const writes = parts.flatMap((part) => {
        const moves = part.hierarchies.map(({ mountPoint }): [string, string] => [
          join(mountPoint, path, "cgroup.procs"),
          String(pid),
        ]);
        const preparation = writesOf(part.preparation(path));
        // v1 takes no process into an empty cpuset; v2 hands nothing down past a cgroup that still has a process
        return isFirstVersion(part) ? [...preparation, ...moves] : [...moves, ...preparation];
      });
      await native.createCgroups({ directories: roots.map((root) => join(root, path)), writes });
    },

    async update(path, resources) {
      checkCgroupPath(path);
      checkNeeds(resources, hierarchies);
      const settings = settingsOf(path, resources, { fresh: false });
      if (settings.length === 0) return;
      for (const part of parts) await makeRoom(part, path, resources.memory?.limit);
      const files = [...new Set(settings.map(({ file }) => file))];
      const before = (await native.readFiles(files)).map(contentOf);
      try {
        await native.writeFiles(writesOf(settings));
      } catch (error) {
        await putBack(files.map((file, index) => [file, before[index]]));
        if (!roots.every((root) => existsSync(join(root, path)))) {
          throw new FailedPreconditionError(`cgroup ${path} is gone: somebody has removed it`, { cause: error });
        }
        throw refusal(error, settings, path);
      }
    },

    async limits(path) {
      checkCgroupPath(path);
      const limits: CgroupLimits = {};
      for (const part of parts) {
        const files = part.limitFiles(path);
        if (files.length > 0) Object.assign(limits, part.readLimits((await native.readFiles(files)).map(contentOf)));
      }
      return limits;
    },

    async remove(path) {
      checkCgroupPath(path);
      samples.forget(path);
      await native.removeCgroups({ directories: roots.map((root) => join(root, path)), timeoutMs: removeTimeoutMs });
    },

    async removeParents(directories) {
      const stayed: string[] = [];
      for (const directory of [...directories].reverse()) {
        const root = roots.find((one) => directory.startsWith(`${one}/`) && !directory.includes("/../"));
        if (root === undefined) continue;
        if (await removeIfEmpty(directory)) samples.forget(directory.slice(root.length));
        else stayed.unshift(directory);
      }
      return stayed;
    },

    async processes(path) {
      checkCgroupPath(path);
      const [root = unifiedRoot] = tasksRoots;
      const files = (await withThoseBelow(join(root, path))).map((directory) => join(directory, "cgroup.procs"));
      const lists = (await native.readFiles(files)).map(contentOf);
      return lists.flatMap((list) => list?.split("\n").filter(Boolean).map(Number) ?? []);
    },

    async kill(path) {
      checkCgroupPath(path);
      await native.killCgroups({ directories: rootsToKill.map((root) => join(root, path)), timeoutMs: killTimeoutMs });
    },

    exists(path) {
      checkCgroupPath(path);
      return roots.some((root) => existsSync(join(root, path)));
    },

    handles: (path) => handlesOf(path, { tasksRoots, unifiedRoot, memory }),

    sample: (paths, { details = true } = {}) => samples.take(paths, details),
  };
}

/**
 * v2 takes a memory limit below what is in use, and kills: what can be reclaimed is asked for first, and a limit that
 * would still kill is refused, as v1's kernel does by itself.
 */
async function makeRoom(part: CgroupPart, path: string, limitBytes: number | undefined): Promise<void> {
  const room = part.reclaim?.(path);
  if (room === undefined || limitBytes === undefined || limitBytes < 0) return;
  const usage = async () =>
    Number(contentOf((await native.readFiles([room.usageFile]))[0] ?? { errnoName: "ENOENT" }) ?? 0);
  const before = await usage();
  if (before <= limitBytes) return;
  // what it could not reclaim is an error, and shows in the usage
  await native.writeFiles([[room.reclaimFile, String(before - limitBytes)]]).catch(() => undefined);
  const inUse = await usage();
  if (inUse <= limitBytes) return;
  throw new FailedPreconditionError(`memory_limit_in_bytes ${limitBytes} is less than what is in use (${inUse} bytes)`);
}

/** After a refused update: the values of before, in the opposite order of the writes. */
async function putBack(values: readonly [file: string, value: string | undefined][]): Promise<void> {
  for (const [file, value] of values.toReversed()) {
    const text = value?.trim() ?? "";
    // what was not written yet takes its own value again; the call's error is the one that is told
    if (text !== "") await native.writeFiles([[file, text]]).catch(() => undefined);
  }
}

/** A resource whose controller is not there fails the call, before anything is made. */
function checkNeeds(resources: LinuxResources, hierarchies: readonly Hierarchy[]): void {
  const has = (controller: string, unified: boolean) =>
    hierarchies.some(
      (hierarchy) => hierarchy.controllers.includes(controller) && (!unified || hierarchy.version === 2),
    );
  for (const { field, controller, unified = false } of checkResources(resources)) {
    // cgroup2 guards devices by a program, without a controller.
    if (controller === "devices" && hierarchies.some(({ version }) => version === 2)) continue;
    // cgroup v2 has it by another name
    if (controller === "blkio" && has("io", true)) continue;
    if (has(controller, unified)) continue;
    const where = unified ? "cgroup v2 here" : "this host";
    throw new FailedPreconditionError(`${field} cannot be applied: ${where} has no ${controller} controller`);
  }
}

async function guardDevices(directory: string, resources: LinuxResources): Promise<void> {
  const policy = devicePolicy(resources.devices);
  if (policy === undefined) return;
  await native.attachDeviceProgram({ directory, instructions: assembleDeviceProgram(policy) });
}

function handlesOf(
  path: string,
  where: { tasksRoots: readonly string[]; unifiedRoot: string; memory: Hierarchy | undefined },
): CgroupHandles {
  checkCgroupPath(path);
  const { tasksRoots, unifiedRoot, memory } = where;
  return {
    tasksFiles: tasksRoots.map((root) => join(root, path, "tasks")),
    cgroup2Directory: unifiedRoot === "" ? "" : join(unifiedRoot, path),
    oomKillFile:
      memory === undefined
        ? ""
        : join(memory.mountPoint, path, memory.version === 2 ? "memory.events" : "memory.oom_control"),
  };
}

function isFirstVersion({ hierarchies }: CgroupPart): boolean {
  return hierarchies.every(({ version }) => version === 1);
}

function contentOf(read: FileRead): string | undefined {
  return "content" in read ? read.content : undefined;
}

/** The directory and all below it; one that goes meanwhile (an exec's) is left out. */
async function withThoseBelow(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    const inner = entries
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => withThoseBelow(join(directory, name)));
    return [directory, ...(await Promise.all(inner)).flat()];
  } catch (error) {
    if (["ENOENT", "ENODEV"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw error;
  }
}

/** False: somebody uses it. */
async function removeIfEmpty(directory: string): Promise<boolean> {
  try {
    await rmdir(directory);
    return true;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENODEV") return true;
    if (code === "EBUSY" || code === "ENOTEMPTY") return false;
    throw error;
  }
}
