/** overlayfs: a layer is a directory of its own entries, a container's root a mount of all of them with an upper one on top. */
import { chmodSync, chownSync, mkdirSync, statSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { native } from "../../../native/binding.js";
import type { LinuxIdMapping } from "../../spec/oci.js";
import { toHostId } from "../../spec/user-namespace.js";
import { filesOf, type StorageDriver } from "./driver.js";
import { makeEmptyLayer, makeMountPoints } from "./own-trees.js";
import { beginProject, endProject, projectUsage } from "./project-quota.js";

/** @param root the agent's state directory */
export async function openOverlayDriver(root: string): Promise<StorageDriver> {
  // overlay wants at least one lower directory: the one of an image without layers
  const { emptyLayer, below } = await makeEmptyLayer(root);
  // the bottom of every container's root: where an image lacks one, it need not be made in the writable directory, which is
  // several writes to the disk
  const mountPoints = await makeMountPoints(root);

  const lowerOf = (layers: readonly string[]): string[] =>
    layers.length === 0 ? [emptyLayer] : layers.map(filesOf).reverse();

  return {
    name: "overlay",
    wholeTrees: false,
    async makeLayer({ home }) {
      await mkdir(filesOf(home), { mode: 0o755 });
    },
    async sealLayer() {},
    async makeRoot({ home, layers, users, mountLabel, limitBytes }) {
      if (limitBytes !== undefined) {
        await native.limitProject({ path: home, project: await beginProject(home), limitBytes });
      }
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
      if (mountLabel !== undefined && lower.length === 1) lower.push(below);
      return native.mountOverlay({ lower, subPath, ...idmap(userNamespaceFd), ...context(mountLabel) });
    },
    // what is at the mount points of every container is none of its changes
    comparisonOf: ({ home, layers }) => ({ upper: upperOf(home), lower: [...lowerOf(layers), mountPoints] }),
    async remove(home) {
      await endProject(home);
      await native.removeTree(home);
    },
    usage: async (home, walk) => (await projectUsage(home)) ?? walk(upperOf(home)),
  };
}

function upperOf(home: string): string {
  return join(home, "upper");
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
