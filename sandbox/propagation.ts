/**
 * Mounts that follow the host (propagation host-to-container and bidirectional). Until such a mount is attached in the
 * container nothing that is mounted below its source on the host reaches it, and what comes in that moment would be lost
 * for ever: so both sides are compared once it is.
 */
import { readFileSync, realpathSync } from "node:fs";
import { native } from "../native/binding.js";
import { FailedPreconditionError } from "./errors.js";
import { type MountInfo, mountBehind, parseMountInfo } from "./mount-info.js";
import { mountPropagation, parseMountOptions } from "./mount-options.js";
import { reflectedMounts } from "./reflected-mounts.js";
import type { Mount, OciSpec } from "./spec/oci.js";

/** The host has mounted or unmounted something while the container was made. */
export class MountsChangedError extends Error {
  override name = "MountsChangedError";
}

/** Does the mount take part in what is mounted on the host later? */
export function followsHost({ type, options }: Mount): boolean {
  return type === "bind" && ![0, mountPropagation.rprivate].includes(parseMountOptions(options).propagation);
}

/** The host's mounts as they are now; none when no mount of the spec follows the host. */
export function hostMounts(spec: OciSpec): MountInfo[] {
  return spec.mounts.some(followsHost) ? parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8")) : [];
}

/** The mounts of the host and of a container. */
export interface MountTables {
  host: MountInfo[];
  container: MountInfo[];
  /** ids of the mounts that are at the container's own places: one may lie on a copy of what the host has there, as
   *  /host/proc when / is on /host */
  own: ReadonlySet<number>;
  /** those at the masked and read-only paths, of which some need no mount of their own */
  covers: ReadonlySet<number>;
}

/** Paths in the container: of its mounts, and of what the launcher mounts besides. */
export interface MountPlaces {
  own: readonly string[];
  covers: readonly string[];
}

/** `rootFd`: the container's root, with the mounts that the process sees. FailedPreconditionError: the process has ended. */
export async function readMountTables(places: MountPlaces, pid: number, rootFd: number): Promise<MountTables> {
  const idsAt = async (paths: readonly string[]): Promise<Set<number>> => {
    const ids = new Set<number>();
    for (const path of paths) {
      const id = await native.mountIdInRoot({ rootFd, path }).catch(() => undefined);
      // a path that was to be masked need not be there
      if (id !== undefined) ids.add(id);
    }
    return ids;
  };
  const own = await idsAt(places.own);
  const covers = await idsAt(places.covers);
  const host = parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
  const container = parseMountInfo(ofInit(() => readFileSync(`/proc/${pid}/mountinfo`, "utf8")));
  return { host, container, own, covers };
}

/** What cannot be read of a process has gone with it. */
function ofInit<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new FailedPreconditionError("the container's init was killed while the container was made", { cause: error });
  }
}

/** The same of a process that has the container's root as its own. */
export async function readTablesOfProcess(places: MountPlaces, pid: number): Promise<MountTables> {
  const rootFd = ofInit(() => native.openPath(`/proc/${pid}/root`));
  try {
    return await readMountTables(places, pid, rootFd);
  } finally {
    native.closeDescriptor(rootFd);
  }
}

export function placesOf({ mounts, linux, process }: OciSpec): MountPlaces {
  return {
    own: mounts.map(({ destination }) => destination),
    covers: [...linux.readonlyPaths, ...linux.maskedPaths, ...(process.terminal ? ["/dev/console"] : [])],
  };
}

/**
 * `before`: the host's mounts just before and just after the sources were opened.
 * @throws MountsChangedError when the host and the container's new root do not show the same below such a mount
 */
export function checkFollowing(spec: OciSpec, tables: MountTables, before: readonly MountInfo[][]): void {
  for (const mount of spec.mounts.filter(followsHost)) {
    const fd = native.openPath(mount.source);
    let behind: MountInfo | undefined;
    try {
      behind = mountBehind(fd, tables.host);
    } finally {
      native.closeDescriptor(fd);
    }
    if (behind === undefined) throw new MountsChangedError(`${mount.source} was mounted over`);
    const difference = findDifference({ ...tables, behind, path: realpathSync(mount.source), before });
    if (difference !== null) throw new MountsChangedError(`${mount.source} and ${mount.destination}: ${difference}`);
  }
}

export interface BothSides extends Omit<MountTables, "covers"> {
  /** the host's mount on which the source lies */
  behind: MountInfo;
  /** the source, without links */
  path: string;
  /**
   * The host's mounts at earlier moments. What was in none of them the launcher has made, be it at a place of a link in the
   * image, a mask, or a copy that is read-only.
   */
  before: readonly (readonly MountInfo[])[];
}

/** null: what is mounted below the source on the host is what is mounted in the container's copies of it. */
export function findDifference({ host, container, behind, path, own, before }: BothSides): string | null {
  const within = relativeTo(behind.mountPoint, path);
  const root = behind.root === "/" ? within || "/" : `${behind.root}${within}`;
  // one that lies in a bidirectional mount is in a group with its image on the host, too
  const copies = container.filter(
    (mount) =>
      mount.device === behind.device && mount.root === root && [mount.group, mount.master].includes(behind.group),
  );
  if (copies.length === 0) return "the container has no copy of it";
  const onHost = below(host, behind, path, new Set(reflectedMounts(host, container, own).map(({ id }) => id)));
  const wasOnHost = new Set(before.flatMap((mounts) => [...below(mounts, behind, path, new Set())]));
  for (const copy of copies) {
    const inContainer = below(container, copy, copy.mountPoint, own);
    const missing = [...onHost].find((key) => !inContainer.has(key));
    if (missing !== undefined) return `${missing} is only on the host`;
    const stale = [...inContainer].find((key) => wasOnHost.has(key) && !onHost.has(key));
    if (stale !== undefined) return `${stale} is only in the container`;
  }
  return null;
}

/** What is mounted below a path of a mount, each as "/relative/path of device:root". Unbindable mounts are never copied. */
function below(all: readonly MountInfo[], top: MountInfo, path: string, own: ReadonlySet<number>): Set<string> {
  const found = new Set<string>();
  const parents = new Set([top.id]);
  // a mount's children come after it, but not always: as long as some are found
  for (let before = -1; before !== parents.size; ) {
    before = parents.size;
    for (const mount of all) {
      if (parents.has(mount.id) || !parents.has(mount.parent) || mount.isUnbindable) continue;
      if (!mount.mountPoint.startsWith(path === "/" ? "/" : `${path}/`) || own.has(mount.id)) continue;
      parents.add(mount.id);
      found.add(`${relativeTo(path, mount.mountPoint)} of ${mount.device}:${mount.root}`);
    }
  }
  return found;
}

function relativeTo(directory: string, path: string): string {
  return directory === "/" ? path : path.slice(directory.length);
}
