/** Where the cgroup hierarchies of this host are mounted, told by /proc/self/mountinfo and never guessed. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Hierarchy } from "./manager.js";

/** v1's mount options that are no controllers. */
const flags = new Set(["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"]);

/**
 * The cgroup hierarchies of a mountinfo (proc(5)), each once, however often it is mounted: the first mount that shows the
 * whole of it, else the first one.
 */
export function parseHierarchies(mountinfo: string, controllersOf: (mountPoint: string) => string[]): Hierarchy[] {
  const found = new Map<string, { hierarchy: MountedHierarchy; whole: boolean }>();
  for (const line of mountinfo.split("\n")) {
    const [left, right] = line.split(" - ");
    const [, , , root, mountPoint] = (left ?? "").split(" ");
    const [type, , superOptions] = (right ?? "").split(" ");
    if (root === undefined || mountPoint === undefined) continue;
    const hierarchy = hierarchyOf(type ?? "", superOptions ?? "", unescapePath(mountPoint));
    if (hierarchy === undefined) continue;
    const key = `${hierarchy.controllers?.join(",") ?? "unified"} ${hierarchy.name}`;
    const before = found.get(key);
    if (before === undefined || (!before.whole && root === "/")) found.set(key, { hierarchy, whole: root === "/" });
  }
  // a file of the chosen mount alone is read: others may be a container's, which goes just now
  return [...found.values()].map(({ hierarchy }) => ({
    ...hierarchy,
    controllers: hierarchy.controllers ?? controllersOf(hierarchy.mountPoint),
  }));
}

/** The controllers that a cgroup2 mount can give. */
export function unifiedControllers(mountPoint: string): string[] {
  return readFileSync(join(mountPoint, "cgroup.controllers"), "utf8").split(/\s+/).filter(Boolean);
}

/** Of one mount; version 2 does not say its controllers there. */
interface MountedHierarchy extends Omit<Hierarchy, "controllers"> {
  controllers: string[] | null;
}

function hierarchyOf(type: string, superOptions: string, mountPoint: string): MountedHierarchy | undefined {
  if (type === "cgroup2") return { mountPoint, version: 2, controllers: null, name: "" };
  if (type !== "cgroup") return undefined;
  const controllers: string[] = [];
  let name = "";
  for (const option of superOptions.split(",")) {
    if (option.startsWith("name=")) name = option.slice("name=".length);
    else if (!flags.has(option) && !option.includes("=")) controllers.push(option);
  }
  return { mountPoint, version: 1, controllers: controllers.sort(), name };
}

/** mountinfo writes space, tab, newline and backslash of a path as octal escapes. */
function unescapePath(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
