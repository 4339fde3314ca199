/**
 * For file systems that can do nothing special: a layer is a whole tree, and a container's root a copy of the topmost one.
 * The files that a layer has from the one below are further names of the same ones: nothing changes a layer's files. A
 * container's are its own; where the file system has reflinks (xfs, btrfs), they share their blocks until they are written.
 */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { native } from "../../../native/binding.js";
import { copyTree } from "../copy-tree.js";
import { filesOf, type StorageDriver } from "./driver.js";
import { makeEmptyLayer, makeMountPoints } from "./own-trees.js";
import { beginProject, endProject } from "./project-quota.js";
import { noteUsage, openTreeAsRoot, showImage, usageSince } from "./whole-trees.js";

/** @param root the agent's state directory */
export async function openCopyDriver(root: string): Promise<StorageDriver> {
  const { emptyLayer, below } = await makeEmptyLayer(root);
  const mountPoints = await makeMountPoints(root);
  const topOf = (layers: readonly string[]): string => {
    const top = layers.at(-1);
    return top === undefined ? emptyLayer : filesOf(top);
  };
  return {
    name: "copy",
    wholeTrees: true,
    async makeLayer({ home, parent }) {
      await mkdir(filesOf(home), { mode: 0o755 });
      if (parent !== undefined) {
        await copyTree({ from: filesOf(parent), to: filesOf(home), shareBelow: dirname(home) });
      }
    },
    async sealLayer() {},
    async makeRoot({ home, layers, users, mountLabel, limitBytes }) {
      const files = filesOf(home);
      const project = limitBytes === undefined ? undefined : await beginProject(home);
      await mkdir(files, { mode: 0o755 });
      const copied = await copyTree({ from: topOf(layers), to: files });
      await noteUsage(home, copied);
      if (limitBytes !== undefined && project !== undefined) {
        await native.limitProject({ path: home, project, limitBytes: copied.bytes + limitBytes });
      }
      return { rootFd: await openTreeAsRoot(files, users?.fd, mountLabel), upperDirectory: files };
    },
    mountImage: ({ layers, ...options }) => showImage(topOf(layers), below, options),
    comparisonOf: ({ home, layers }) => ({ upper: filesOf(home), lower: [topOf(layers), mountPoints] }),
    async remove(home) {
      await endProject(home);
      await native.removeTree(home);
    },
    usage: usageSince,
  };
}
