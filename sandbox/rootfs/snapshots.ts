/**
 * Root file systems of containers: an image's content and what the container writes, as the storage driver puts them
 * together. Nothing is mounted in the host's namespace; what has a name on the host is `<root>/containers/<id>/`.
 */
import { mkdirSync } from "node:fs";
import { mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { isDiskFull } from "../errno.js";
import { BerthError, InvalidArgumentError, messageOf, NotFoundError, ResourceExhaustedError } from "../errors.js";
import { type MappedIds, type Rootfs, type StorageDriver, showFiles } from "./drivers/driver.js";
import type { LayerStore } from "./layer-store.js";
import { PacedWalks, type TreeUsage } from "./paced-walks.js";
import type { RootComparison } from "./root-changes.js";
import { tryAgain } from "./try-again.js";
import { type DiskUsage, WritableUsage } from "./writable-usage.js";

export type { DiskUsage, MappedIds, Rootfs };

export interface Snapshots {
  /** The containers' directory: the mount point that ImageFsInfo names for containers. */
  readonly directory: string;
  /** The layers' directory: the mount point that ImageFsInfo names for images. */
  readonly imageDirectory: string;
  /**
   * @param layers chain ids, bottom first. Leaves nothing behind when it fails.
   */
  prepareRootfs(options: {
    containerId: string;
    layers: readonly string[];
    users?: MappedIds | undefined;
    /** SELinux label of all files */
    mountLabel?: string | undefined;
    /** how much the container may write to it */
    limitBytes?: number | undefined;
  }): Promise<Rootfs>;
  /**
   * A detached, read-only mount of an image's content, or of a directory or file in it (resolved within the image, links
   * and all). The caller closes it. @param layers chain ids, bottom first; they must stay as long as the mount is used
   */
  mountImage(options: {
    layers: readonly string[];
    subPath: string;
    /** ids are shown as this user namespace maps them */
    userNamespaceFd?: number | undefined;
    /** SELinux label of all files */
    mountLabel?: string | undefined;
  }): Promise<number>;
  /**
   * The same as prepareRootfs for a directory of the caller's own, which is empty. What it leaves when it fails, too,
   * removeRootfsIn() takes away.
   */
  prepareRootfsIn(options: {
    home: string;
    layers: readonly string[];
    users?: MappedIds | undefined;
    mountLabel?: string | undefined;
    limitBytes?: number | undefined;
  }): Promise<Rootfs>;
  /** For rootChanges(). The caller closes it. @param layers chain ids, bottom first */
  compareRootfs(
    containerId: string,
    layers: readonly string[],
  ): Promise<RootComparison & { close: () => Promise<void> }>;
  /** Of prepareRootfsIn; already gone is success. */
  removeRootfsIn(home: string): Promise<void>;
  /** Already gone is success. */
  removeRootfs(containerId: string): Promise<void>;
  /** ids of the containers that have a writable directory */
  listRootfs(): Promise<string[]>;
  /** Names in the containers' directory of what was removed, but could not be deleted. */
  leftovers(): Promise<string[]>;
  /** Tries again to delete one. */
  discard(name: string): Promise<void>;
  /**
   * What the container has written, as it was at some moment of late. Undefined: it is not known yet, because it is much.
   * @throws NotFoundError when it has no writable layer
   */
  writableLayerUsage(containerId: string): Promise<DiskUsage | undefined>;
  /** What all layers take: from their records, without a walk. */
  imageFsUsage(): DiskUsage;
}

const idPattern = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

export async function openSnapshots(root: string, layers: LayerStore): Promise<Snapshots> {
  const { driver } = layers;
  const directory = join(root, "containers");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const walks = new PacedWalks();
  const usages = new WritableUsage((containerId) => measure(driver, walks, directoryOf(containerId), containerId));
  const deleting = new Set<string>();
  let serial = 0;

  /** Nobody waits for it, and nobody finds it under its name: what a crash leaves of it goes at the next start. */
  const deleteLater = (name: string, tries = 0): void => {
    deleting.add(name);
    driver.remove(join(directory, name)).then(
      () => deleting.delete(name),
      () => tryAgain(tries, () => deleteLater(name, tries + 1)) || deleting.delete(name),
    );
  };
  const directoryOf = (containerId: string): string => {
    if (!idPattern.test(containerId)) throw new InvalidArgumentError(`"${containerId}" is no container id`);
    return join(directory, containerId);
  };

  const homesOf = (chainIds: readonly string[]): string[] => layers.shown(chainIds).map(layers.home);

  const prepareRootfsIn: Snapshots["prepareRootfsIn"] = async ({ layers: chainIds, ...options }) =>
    driver.makeRoot({ ...options, layers: homesOf(chainIds) });

  const removeRootfs = async (containerId: string): Promise<void> => {
    usages.forget(containerId);
    const doomed = `.removed-${process.pid.toString(36)}-${++serial}`;
    try {
      await rename(directoryOf(containerId), join(directory, doomed));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw error;
    }
    deleteLater(doomed);
  };

  for (const name of await readdir(directory)) {
    if (name.startsWith(".removed-")) deleteLater(name);
  }

  return {
    directory,
    imageDirectory: join(root, "layers"),
    async prepareRootfs({ containerId, layers: chainIds, users, mountLabel, limitBytes }) {
      const home = directoryOf(containerId);
      // synchronous: a directory costs less than the way to another thread and back
      mkdirSync(home, { mode: 0o700 });
      try {
        return await prepareRootfsIn({ home, layers: chainIds, users, mountLabel, limitBytes });
      } catch (error) {
        await removeRootfs(containerId);
        throw asStorageError(error, `the root file system of container ${containerId}`);
      }
    },
    prepareRootfsIn,
    mountImage: async ({ layers: chainIds, ...options }) =>
      driver.mountImage({ ...options, layers: homesOf(chainIds) }),
    async compareRootfs(containerId, chainIds) {
      const home = directoryOf(containerId);
      const homes = homesOf(chainIds);
      const compared = driver.wholeTrees ? homes.slice(-1) : homes;
      const close = await showFiles(driver, [home, ...compared]);
      return { ...driver.comparisonOf({ home, layers: homes }), whole: driver.wholeTrees, close };
    },
    removeRootfs,
    removeRootfsIn: (home) => driver.remove(home),
    async listRootfs() {
      return (await readdir(directory)).filter((name) => !name.startsWith("."));
    },
    async leftovers() {
      return (await readdir(directory)).filter((name) => name.startsWith(".") && !deleting.has(name));
    },
    discard: (name) => driver.remove(join(directory, name)),
    writableLayerUsage: (containerId) => usages.of(containerId),
    imageFsUsage() {
      let bytes = 0;
      let inodes = 0;
      for (const layer of layers.list()) {
        bytes += layer.bytes;
        inodes += layer.inodes;
      }
      return { bytes, inodes, timestamp: BigInt(Date.now()) * 1_000_000n };
    },
  };
}

async function measure(
  driver: StorageDriver,
  walks: PacedWalks,
  home: string,
  containerId: string,
): Promise<TreeUsage> {
  try {
    return await driver.usage(home, (directory) => walks.measure(directory));
  } catch (error) {
    throw new NotFoundError(
      `the writable layer of container ${containerId} could not be measured: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** A full disk or used-up quota is the machine's state, not a fault of ours. */
function asStorageError(error: unknown, what: string): unknown {
  if (error instanceof BerthError || !isDiskFull(error)) return error;
  return new ResourceExhaustedError(`no space is left for ${what}: ${messageOf(error)}`, { cause: error });
}
