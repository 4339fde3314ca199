/**
 * What a container's own mounts leave on the host. Where one lies below a mount that is bidirectional, the kernel shows
 * it at the same place of the host, too, and there it would stay when the container ends: its source busy, and one more
 * of it at each restart. So its places are remembered, and cleared at the container's end.
 */
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { native } from "../native/binding.js";
import { type MountInfo, parseMountInfo } from "./mount-info.js";
import type { SandboxNode } from "./node.js";

export interface ReflectedMount {
  mountPoint: string;
  /** its peer group: nobody else's as long as it is there */
  group: number;
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
