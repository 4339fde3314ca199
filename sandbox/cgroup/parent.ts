/** A pod's cgroup_parent with the cgroupfs driver (systemd's: systemd/slices.ts). */
import { InvalidArgumentError } from "../errors.js";
import type { Hierarchy } from "./manager.js";

/** NAME_MAX of linux/limits.h */
const maxNameBytes = 255;
/** Of PATH_MAX, what is left for the mount point, the cgroups below and their files. */
const maxParentBytes = 3_000;

/** The parent as a path from the hierarchies' roots on. InvalidArgumentError begins with the field: it is none. */
export function pathOfParent(
  parent: string,
  field: string,
  hierarchies: readonly Pick<Hierarchy, "mountPoint" | "controllers">[],
): string {
  const refused = (why: string) => new InvalidArgumentError(`${field}: ${JSON.stringify(parent)} ${why}`);
  if (Buffer.byteLength(parent) > maxParentBytes) {
    throw new InvalidArgumentError(
      `${field} has ${Buffer.byteLength(parent)} bytes; ${maxParentBytes} at most are possible`,
    );
  }
  const parts = parent.split("/").filter((part) => part !== "");
  if (parts.length === 0 || !parts.every(isName)) throw refused("is not a path below the cgroup root");
  const path = `/${parts.join("/")}`;
  if (["/sys/fs/cgroup", ...hierarchies.map(({ mountPoint }) => mountPoint)].some((root) => isBelow(path, root))) {
    throw refused("is a path of the host's files; a cgroup is named from the root of its hierarchies on");
  }
  const controllers = hierarchies.flatMap((hierarchy) => hierarchy.controllers);
  if (parts.some((part) => isControlFile(part, controllers))) throw refused("has the name of a cgroup's control file");
  if (parts.at(-1)?.endsWith(".slice")) {
    throw refused("is a systemd slice, and this runtime uses the cgroupfs driver (RuntimeConfig tells)");
  }
  return path;
}

function isControlFile(part: string, controllers: readonly string[]): boolean {
  return (
    ["tasks", "notify_on_release", "release_agent"].includes(part) ||
    ["cgroup", ...controllers].some((prefix) => part.startsWith(`${prefix}.`))
  );
}

/** Whether the cgroup is the other one, or below it. */
export function isBelow(cgroup: string, above: string): boolean {
  return `${cgroup}/`.startsWith(`${above}/`);
}

/** The kernel makes no cgroup with a line's end in its name. */
function isName(part: string): boolean {
  return part !== "." && part !== ".." && !/[\0\n]/.test(part) && Buffer.byteLength(part) <= maxNameBytes;
}
