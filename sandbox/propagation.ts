/**
 * Mounts that follow the host (propagation host-to-container and bidirectional). Until such a mount is attached in the
 * container nothing that is mounted below its source on the host reaches it, and what comes in that moment would be lost
 * for ever: so both sides are compared once it is.
 */
import { readFileSync, realpathSync } from "node:fs";
import { native } from "../native/binding.js";
import { type MountInfo, mountBehind, parseMountInfo } from "./mount-info.js";
import { mountPropagation, parseMountOptions } from "./mount-options.js";
import { type ReflectedMount, reflectedMounts } from "./reflected-mounts.js";
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
  /** ids of the container's mounts that the host does not have */
  own: ReadonlySet<number>;
}

export function readMountTables(spec: OciSpec, pid: number): MountTables {
  const host = parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
  const container = parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, "utf8"));
  const destinations = spec.mounts.map(({ destination }) => destination);
  return { host, container, own: ownMounts(container, destinations) };
}

/** What of the container's own mounts is on the host, too, because it lies below a bidirectional one. */
export function findReflected({ host, container, own }: MountTables): ReflectedMount[] {
  return reflectedMounts(host, container, own).map(({ mountPoint, group }) => ({ mountPoint, group }));
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

export interface BothSides extends MountTables {
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

/** The container's own mounts: one may lie on a copy of what the host has there, as /host/proc when / is on /host. */
export function ownMounts(container: readonly MountInfo[], destinations: readonly string[]): Set<number> {
  const ids = new Set<number>();
  for (const destination of destinations) {
    const there = container.filter(({ mountPoint }) => mountPoint === destination);
    const covered = new Set(there.map(({ parent }) => parent));
    for (const { id } of there) if (!covered.has(id)) ids.add(id);
  }
  return ids;
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
