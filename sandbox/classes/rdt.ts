/** RDT classes: shares of cache and memory bandwidth. A class is a group of the kernel's resctrl file system. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FailedPreconditionError, messageOf } from "../errors.js";

export interface RdtClass {
  /** lines of the group's schemata: "L3:0=ff;1=ff", "MB:0=50"; none: the group is somebody else's, and must be there */
  readonly schemata: readonly string[];
}

/** The kernel's own entries beside the groups. */
const reserved = new Set(["", ".", "..", "info", "mon_groups", "mon_data"]);

export function isRdtClassName(name: string): boolean {
  return !reserved.has(name) && /^[^/\0\n]{1,255}$/.test(name);
}

export class Rdt {
  /** whose schemata were written by this agent */
  readonly #made = new Set<string>();

  constructor(private readonly root = "/sys/fs/resctrl") {}

  /** Sees that the class' group is there, with the schemata of the configuration. */
  ensure(name: string, { schemata }: RdtClass): void {
    if (!existsSync(join(this.root, "schemata"))) {
      throw new FailedPreconditionError(
        `the RDT class "${name}" cannot be given: resctrl is not mounted at ${this.root}`,
      );
    }
    const group = join(this.root, name);
    if (this.#made.has(name) && existsSync(group)) return;
    try {
      if (schemata.length > 0) {
        mkdirSync(group, { recursive: true });
        writeFileSync(join(group, "schemata"), `${schemata.join("\n")}\n`);
      }
    } catch (error) {
      throw new FailedPreconditionError(`the RDT class "${name}" cannot be made: ${messageOf(error)}`, {
        cause: error,
      });
    }
    if (!existsSync(group)) {
      throw new FailedPreconditionError(
        `the RDT class "${name}" has no schemata in config.toml, and no group ${group}`,
      );
    }
    this.#made.add(name);
  }

  /** Who writes "0" into it is of the class from then on, and so is what it forks. */
  tasksFile(name: string): string {
    return join(this.root, name, "tasks");
  }
}
