/**
 * btrfs: a layer is a subvolume with a whole tree, that of the layer below and what the layer changes; a container's root is
 * a snapshot of the topmost one. They share all blocks of which nobody has written other ones.
 */
import { chmod, mkdir, statfs } from "node:fs/promises";
import { isSystemError, native } from "../../../native/binding.js";
import { FailedPreconditionError } from "../../errors.js";
import { copyTree } from "../copy-tree.js";
import type { TreeUsage } from "../paced-walks.js";
import { filesOf, type StorageDriver } from "./driver.js";
import { makeEmptyLayer, makeMountPoints } from "./own-trees.js";
import { notedUsage, noteUsage, openTreeAsRoot, showImage, usageSince } from "./whole-trees.js";

/** linux/magic.h */
const btrfsMagic = 0x9123683e;
/** of one step; the thread is the walk's own */
const walkMs = 1_000;

/** @param root the agent's state directory; @throws FailedPreconditionError when it is not on btrfs */
export async function openBtrfsDriver(root: string): Promise<StorageDriver> {
  if ((await statfs(root)).type !== btrfsMagic) {
    throw new FailedPreconditionError(`storage-driver btrfs: ${root} is on another file system`);
  }
  const { emptyLayer, below } = await makeEmptyLayer(root);
  const mountPoints = await makeMountPoints(root);
  const topOf = (layers: readonly string[]): string => {
    const top = layers.at(-1);
    return top === undefined ? emptyLayer : filesOf(top);
  };
  // one after another, however many are removed
  let isCleaning = false;
  let isDirty = false;
  const clean = async (): Promise<void> => {
    isDirty = true;
    if (isCleaning) return;
    for (isCleaning = true; isDirty; ) {
      isDirty = false;
      // what it does not do now, btrfs does later
      await native.cleanBtrfs(root).catch(() => undefined);
    }
    isCleaning = false;
  };
  return {
    name: "btrfs",
    wholeTrees: true,
    async makeLayer({ home, parent }) {
      if (parent === undefined) await makeSubvolume(filesOf(home));
      else await native.snapshotSubvolume({ from: filesOf(parent), to: filesOf(home) });
    },
    async sealLayer(home) {
      await native.makeSubvolumeReadOnly(filesOf(home));
      await noteUsage(home, await measure(filesOf(home)));
    },
    async makeRoot({ home, layers, users, mountLabel, limitBytes }) {
      const files = filesOf(home);
      const top = layers.at(-1);
      if (top === undefined) await makeSubvolume(files);
      else await snapshotOrCopy(filesOf(top), files);
      await noteUsage(home, top === undefined ? { bytes: 0, inodes: 1 } : await notedUsage(top));
      if (limitBytes !== undefined) await native.limitSubvolume(files, limitBytes);
      return { rootFd: await openTreeAsRoot(files, users?.fd, mountLabel), upperDirectory: files };
    },
    mountImage: ({ layers, ...options }) => showImage(topOf(layers), below, options),
    comparisonOf: ({ home, layers }) => ({ upper: filesOf(home), lower: [topOf(layers), mountPoints] }),
    async remove(home) {
      try {
        await native.deleteSubvolume(filesOf(home));
        void clean();
      } catch (error) {
        // gone already, or never made; or something else that lies there
        if (!isSystemError(error) || !["ENOENT", "EINVAL", "ENOTTY", "ENOTDIR"].includes(error.errnoName)) throw error;
      }
      await native.removeTree(home);
    },
    usage: usageSince,
  };
}

async function makeSubvolume(path: string): Promise<void> {
  await native.createSubvolume(path);
  await chmod(path, 0o755);
}

/** A bundle may be asked for on another file system. */
async function snapshotOrCopy(from: string, to: string): Promise<void> {
  try {
    await native.snapshotSubvolume({ from, to });
  } catch (error) {
    if (!isSystemError(error) || !["EXDEV", "ENOTTY"].includes(error.errnoName)) throw error;
    await mkdir(to, { mode: 0o755 });
    await copyTree({ from, to });
  }
}

async function measure(directory: string): Promise<TreeUsage> {
  const walk = native.openUsageWalk(directory);
  for (;;) {
    const { done, bytes, inodes } = await walk.step(walkMs);
    if (done) return { bytes, inodes };
  }
}
