/** Who has frozen a cgroup, and the way back: v1 has a controller for it, v2 a file in every cgroup but the root. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isSystemError, native } from "../../native/binding.js";
import type { Hierarchy } from "./manager.js";
import { parentsOf } from "./paths.js";

export interface Frozen {
  /** the cgroup that was frozen, relative to every hierarchy's root */
  path: string;
  /** where it is thawed, absolute, and by which word */
  file: string;
  thawed: string;
  /** v1's: not even SIGKILL reaches what is in there */
  keepsSignals: boolean;
}

/** The cgroup that holds a path's processes frozen: itself, or the outermost such parent. Undefined: they run. */
export function frozenAt(hierarchies: readonly Hierarchy[], path: string): Frozen | undefined {
  for (const cgroup of [...parentsOf(path), path]) {
    for (const { version, controllers, mountPoint } of hierarchies) {
      const directory = join(mountPoint, cgroup);
      // freezer.state says FROZEN also where only a parent is
      if (controllers.includes("freezer") && isSet(join(directory, "freezer.self_freezing"))) {
        return { path: cgroup, file: join(directory, "freezer.state"), thawed: "THAWED", keepsSignals: true };
      }
      const file = join(directory, "cgroup.freeze");
      if (version === 2 && isSet(file)) return { path: cgroup, file, thawed: "0", keepsSignals: false };
    }
  }
  return undefined;
}

export async function thaw({ file, thawed }: Frozen): Promise<void> {
  try {
    await native.writeFiles([[file, thawed]]);
  } catch (error) {
    // what was killed there had only waited for the other hierarchy, and is gone with its cgroup
    if (!isSystemError(error) || !["ENOENT", "ENODEV"].includes(error.errnoName)) throw error;
  }
}

/** False also where there is no such file: the cgroup is gone, or the host has no freezer. */
function isSet(file: string): boolean {
  try {
    return readFileSync(file, "utf8").startsWith("1");
  } catch {
    return false;
  }
}
