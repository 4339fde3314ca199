/** Which test files run inside the machines, and in which. */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { KernelName } from "./kernel.js";
import type { SecurityModule } from "./machine.js";

/** Folders of test files; the guest's own checks come before the runtime's tests. */
const folders = [
  { path: "test/vm/guest", suffix: "-checks" },
  { path: "test/integration", suffix: ".test" },
  { path: "test/rules", suffix: ".test" },
  { path: "test/faults", suffix: ".test" },
  { path: "test/security", suffix: ".test" },
];

/** Files that take minutes: they go first, so that the others fill the second machine meanwhile. */
const slow = ["recovery.test"];

/** What .ci/run has time for: the machine, all of what writes cgroup v2, and pods as scopes of systemd. */
export const reduced = ["vm/guest/kernel-checks", "integration/cgroups.test", "integration/systemd-driver.test"];

/** A kind of machine. */
export interface Lane {
  kernel: KernelName;
  /** the one that its kernel is started with; Debian's own choice is AppArmor */
  securityModule: SecurityModule;
  /** its first process: a script (guest/init.sh), or what that starts in its place */
  init: "script" | "systemd";
  /** v2 alone, or as systemd had it before: v1 with its controllers, and v2 without any */
  cgroups: "v2" | "hybrid";
}

/** In the order in which they run. */
export const lanes: readonly Lane[] = [
  { kernel: "debian", securityModule: "apparmor", init: "script", cgroups: "v2" },
  { kernel: "debian", securityModule: "apparmor", init: "systemd", cgroups: "v2" },
  { kernel: "debian", securityModule: "selinux", init: "script", cgroups: "v2" },
  { kernel: "backports", securityModule: "apparmor", init: "script", cgroups: "v2" },
  { kernel: "debian", securityModule: "apparmor", init: "systemd", cgroups: "hybrid" },
];
/** Those that .ci/run has time for. */
export const reducedLanes = lanes.slice(0, 2);

/** Whether a test file is run in a lane. */
export function isOf(lane: Lane, path: string): boolean {
  const [plain, systemd, selinux, newer, hybrid] = lanes;
  if (lane === hybrid) return /\/(cgroups|systemd-(driver|restarts|service))\.test[^/]*$/.test(path);
  if (/\/systemd-[^/]*$/.test(path)) return lane === systemd;
  if (/\/selinux[^/]*$/.test(path)) return lane === selinux;
  // pods with a user namespace need ids mapped on tmpfs mounts: Linux 6.3
  if (/\/user-namespace[^/]*$/.test(path)) return lane === newer;
  return lane === plain;
}

/** Absolute paths of the compiled test files whose path contains one of the filters (all, when there is none). */
export async function findTests(repository: string, filters: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const { path, suffix } of folders) {
    const sources = await readdir(join(repository, path)).catch(() => [] as string[]);
    for (const source of sources.filter((name) => name.endsWith(`${suffix}.ts`)).sort()) {
      const compiled = join(repository, "dist", path, source.replace(/\.ts$/, ".js"));
      if (!existsSync(compiled)) throw new Error(`${path}/${source} is not compiled; run \`npm run build\``);
      found.push(compiled);
    }
  }
  const isSlow = (path: string): boolean => slow.some((name) => path.includes(name));
  return found
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort((a, b) => Number(isSlow(b)) - Number(isSlow(a)));
}
