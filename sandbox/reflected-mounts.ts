/**
 * What a container's own mounts leave on the host. Where one lies below a mount that is bidirectional, the kernel shows
 * it at the same place of the host, too, and there it would stay when the container ends: its source busy, and one more
 * of it at each restart. So its places are remembered, and cleared at the container's end.
 */
import { type BigIntStats, fstatSync, readFileSync, realpathSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { native } from "../native/binding.js";
import { type MountInfo, mountBehind, parseMountInfo } from "./mount-info.js";
import { mountPropagation, parseMountOptions } from "./mount-options.js";
import type { SandboxNode } from "./node.js";
import type { OpenMounts } from "./open-mounts.js";
import type { MountTables } from "./propagation.js";
import type { Mount } from "./spec/oci.js";

export interface ReflectedMount {
  mountPoint: string;
  /** its peer group: nobody else's as long as it is there */
  group: number;
}

/** What of the container's own mounts is on the host, too. `before`: the host's mounts when it was not made yet. */
export function findReflected(
  { host, container, own, covers }: MountTables,
  before: readonly MountInfo[],
): ReflectedMount[] {
  const isNew = comparedWith(before);
  return reflectedMounts(host, container, new Set([...own, ...covers]))
    .filter(isNew)
    .map(({ mountPoint, group }) => ({ mountPoint, group }));
}

/** The same when the creation has failed, and no process is left to compare with: what has come since then in the peers of
 *  a bidirectional mount and shows what a source shows. */
export function findLeftBehind({ mounts }: Pick<OpenMounts, "mounts">, before: readonly MountInfo[]): ReflectedMount[] {
  const isNew = comparedWith(before);
  const host = parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
  const byId = new Map(host.map((mount) => [mount.id, mount]));
  const groups = new Set(
    mounts.filter(({ mount }) => isBidirectional(mount)).flatMap(({ mount }) => groupsBelow(mount.source, host)),
  );
  const shown = mounts.filter(({ mount }) => !isBidirectional(mount)).map(({ fd }) => fstatSync(fd, { bigint: true }));
  return host
    .filter((mount) => isNew(mount) && groups.has(byId.get(mount.parent)?.group ?? 0))
    .filter(({ mountPoint, device }) =>
      shown.some((source) => deviceName(source.dev) === device && isAt(mountPoint, source)),
    )
    .map(({ mountPoint, group }) => ({ mountPoint, group }));
}

/** The kernel uses numbers again. */
function comparedWith(before: readonly MountInfo[]): (mount: MountInfo) => boolean {
  const keyOf = ({ id, parent, mountPoint }: MountInfo) => `${id} ${parent} ${mountPoint}`;
  const old = new Set(before.map(keyOf));
  return (mount) => !old.has(keyOf(mount));
}

/** Peer groups of the mount that the path lies on, and of those below the path. */
function groupsBelow(path: string, host: readonly MountInfo[]): number[] {
  const place = realpathSync(path);
  const fd = native.openPath(place);
  try {
    const behind = mountBehind(fd, host);
    return [...(behind ? [behind] : []), ...host.filter(({ mountPoint }) => mountPoint.startsWith(`${place}/`))]
      .filter(({ isShared }) => isShared)
      .map(({ group }) => group);
  } finally {
    native.closeDescriptor(fd);
  }
}

/** As mountinfo writes it; see makedev(3). */
function deviceName(device: bigint): string {
  const major = ((device >> 32n) & 0xffff_f000n) | ((device >> 8n) & 0xfffn);
  const minor = ((device >> 12n) & 0xffff_ff00n) | (device & 0xffn);
  return `${major}:${minor}`;
}

function isAt(path: string, { dev, ino }: BigIntStats): boolean {
  const there = statSync(path, { bigint: true, throwIfNoEntry: false });
  return there?.dev === dev && there.ino === ino;
}

/** The host's mounts that are an image of one of the container's own. */
export function reflectedMounts(
  host: readonly MountInfo[],
  container: readonly MountInfo[],
  own: ReadonlySet<number>,
): MountInfo[] {
  const inContainer = new Map(container.map((mount) => [mount.id, mount]));
  const onHost = new Map(host.map((mount) => [mount.id, mount]));
  return container
    .filter(({ id }) => own.has(id))
    .flatMap((mount) => {
      const below = inContainer.get(mount.parent);
      if (!below?.isShared) return [];
      // what lies on a peer of the mount below, at the same place of it; the source lies elsewhere
      return host.filter((other) => {
        const peer = onHost.get(other.parent);
        const isSame = other.device === mount.device && other.root === mount.root;
        return isSame && peer?.group === below.group && placeOn(peer, other) === placeOn(below, mount);
      });
    });
}

function isBidirectional({ type, options }: Mount): boolean {
  return type === "bind" && parseMountOptions(options).propagation === mountPropagation.rshared;
}

/** Where a mount lies within the file system of the one below it. */
function placeOn(below: MountInfo, { mountPoint }: MountInfo): string {
  return join(below.root, relative(below.mountPoint, mountPoint));
}

/** Clears those places, the last first; what is not there any more, or covered by now, is left alone. */
export async function clearReflected(
  { serial }: Pick<SandboxNode, "serial">,
  mounts: readonly ReflectedMount[],
): Promise<void> {
  if (mounts.length === 0) return;
  // one after the other: what two find at a place only one may take away
  await serial.run("reflected mounts", async () => {
    for (const { mountPoint, group } of [...mounts].reverse()) {
      const all = parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
      const there = all.filter((mount) => mount.mountPoint === mountPoint);
      const covered = new Set(there.map(({ parent }) => parent));
      const top = there.find(({ id }) => !covered.has(id));
      if (top?.group === group) await native.unmount(mountPoint);
    }
  });
}
