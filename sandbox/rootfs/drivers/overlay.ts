/** overlayfs: a layer is a directory of its own entries, a container's root a mount of all of them with an upper one on top. */
import { chmodSync, chownSync, mkdirSync, statSync } from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { native } from "../../../native/binding.js";
import type { LinuxIdMapping } from "../../spec/oci.js";
import { toHostId } from "../../spec/user-namespace.js";
import { removeTree } from "../remove-tree.js";
import { filesOf, type StorageDriver } from "./driver.js";

/** @param root the agent's state directory; the driver's own directories in it are `empty` and `mount-points` */
export async function openOverlayDriver(root: string): Promise<StorageDriver> {
  // overlay wants at least one lower directory: the one of an image without layers
  const emptyLayer = filesOf(join(root, "empty"));
  const mountPoints = filesOf(join(root, "mount-points"));
  // nobody else gets in, as with every layer, whatever the mode of a root directory that was there before
  await mkdir(join(root, "empty"), { recursive: true, mode: 0o700 });
  await mkdir(emptyLayer, { recursive: true, mode: 0o755 });
  await makeMountPoints(mountPoints);

  const lowerOf = (layers: readonly string[]): string[] =>
    layers.length === 0 ? [emptyLayer] : layers.map(filesOf).reverse();

  return {
    name: "overlay",
    wholeTrees: false,
    async makeLayer({ home }) {
      await mkdir(filesOf(home), { mode: 0o755 });
    },
    async sealLayer() {},
    async makeRoot({ home, layers, users, mountLabel }) {
      const lower = [...lowerOf(layers), mountPoints];
      const upper = upperOf(home);
      const work = join(home, "work");
      // synchronous: a directory costs less than the way to another thread and back
      mkdirSync(upper, { mode: 0o755 });
      mkdirSync(work, { mode: 0o700 });
      // the overlay's root directory is the upper one: it has to look like the image's
      const top = statSync(lower[0] as string);
      chownSync(upper, ownerOf(users?.mappings.uids, top.uid), ownerOf(users?.mappings.gids, top.gid));
      chmodSync(upper, top.mode & 0o7777);
      // volatile: an upper directory is mounted once and does not outlive the boot, and without it the end of every
      // container would wait until the kernel has written all that it holds to the disk
      const rootFd = await native.mountOverlay({
        lower,
        upper,
        work,
        volatile: true,
        ...idmap(users?.fd),
        ...context(mountLabel),
      });
      return { rootFd, upperDirectory: upper };
    },
    mountImage({ layers, subPath, userNamespaceFd, mountLabel }) {
      const lower = lowerOf(layers);
      // a single layer is shown as it is, with its own labels; two are an overlay
      if (mountLabel !== undefined && lower.length === 1) lower.push(emptyLayer);
      return native.mountOverlay({ lower, subPath, ...idmap(userNamespaceFd), ...context(mountLabel) });
    },
    // what is at the mount points of every container is none of its changes
    comparisonOf: ({ home, layers }) => ({ upper: upperOf(home), lower: [...lowerOf(layers), mountPoints] }),
    remove: removeTree,
    usage: (home, walk) => walk(upperOf(home)),
  };
}

function upperOf(home: string): string {
  return join(home, "upper");
}

/**
 * The bottom of every container's root: what is mounted over in each of them. Where an image lacks it, it need not be made in
 * the writable directory, which is several writes to the disk.
 */
async function makeMountPoints(directory: string): Promise<void> {
  await mkdir(dirname(directory), { recursive: true, mode: 0o700 });
  for (const name of ["", "dev", "etc", "proc", "sys"]) {
    await mkdir(join(directory, name), { recursive: true });
    await chmod(join(directory, name), 0o755);
  }
  for (const name of ["hostname", "hosts", "resolv.conf"]) {
    // one that is there is below the roots of containers that run: it is left as it is
    await writeFile(join(directory, "etc", name), "", { flag: "a" });
    await chmod(join(directory, "etc", name), 0o644);
  }
}

function idmap(userNamespaceFd: number | undefined): { userNamespaceFd?: number } {
  return userNamespaceFd === undefined ? {} : { userNamespaceFd };
}

function context(mountLabel: string | undefined): { context?: string } {
  return mountLabel === undefined ? {} : { context: mountLabel };
}

/** Of the root directory, on the host. One whose owner has no number there belongs to the namespace's root. */
function ownerOf(mapping: LinuxIdMapping | undefined, id: number): number {
  return mapping === undefined ? id : (toHostId(mapping, id) ?? mapping.hostID);
}
