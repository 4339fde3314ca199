/**
 * Root file systems of containers: a detached overlay of an image's layers with a writable directory of the container's
 * own on top. Nothing is mounted in the host's namespace; what has a name on the host is `<root>/containers/<id>/`.
 */
import { chmodSync, chownSync, mkdirSync, statSync } from "node:fs";
import { chmod, mkdir, readdir, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Addon, native } from "../../native/binding.js";
import { InvalidArgumentError, messageOf, NotFoundError, ResourceExhaustedError } from "../errors.js";
import type { LinuxIdMapping } from "../spec/oci.js";
import { toHostId, type UserNamespace } from "../spec/user-namespace.js";
import type { LayerStore } from "./layer-store.js";
import { removeTree } from "./remove-tree.js";

export interface Rootfs {
  /** a detached mount; the caller closes it */
  rootFd: number;
  /** what the container has written */
  upperDirectory: string;
}

export interface DiskUsage {
  bytes: number;
  inodes: number;
  /** nanoseconds since the epoch: when it was measured */
  timestamp: bigint;
}

/** A user namespace whose ids the layers' files are shown with; they stay as they are. */
export interface MappedIds {
  mappings: UserNamespace;
  fd: number;
}

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
   * The same as prepareRootfs for a directory of the caller's own: `upper` and `work` are made in it. The caller removes
   * them.
   */
  prepareRootfsIn(options: {
    home: string;
    layers: readonly string[];
    users?: MappedIds | undefined;
    mountLabel?: string | undefined;
  }): Promise<Rootfs>;
  /** Already gone is success. */
  removeRootfs(containerId: string): Promise<void>;
  /** ids of the containers that have a writable directory */
  listRootfs(): Promise<string[]>;
  /** What the container has written. Measured at most once in ten seconds. */
  writableLayerUsage(containerId: string): Promise<DiskUsage>;
  /** What all layers take: from their records, without a walk. */
  imageFsUsage(): DiskUsage;
}

const usageAgeMs = 10_000;
const idPattern = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

type SnapshotsNative = Pick<Addon, "mountOverlay" | "diskUsage">;

/** @param addon the native calls; tests give others */
export async function openSnapshots(
  root: string,
  layers: LayerStore,
  addon: SnapshotsNative = native,
): Promise<Snapshots> {
  const directory = join(root, "containers");
  // overlay wants at least one lower directory: the one of an image without layers
  const emptyLayer = join(root, "empty", "fs");
  const mountPoints = join(root, "mount-points", "fs");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  // nobody else gets in, as with every layer, whatever the mode of a root directory that was there before
  await mkdir(join(root, "empty"), { recursive: true, mode: 0o700 });
  await mkdir(emptyLayer, { recursive: true, mode: 0o755 });
  await makeMountPoints(mountPoints);
  const usages = new Map<string, { at: number; usage: Promise<DiskUsage> }>();
  let serial = 0;

  const directoryOf = (containerId: string): string => {
    if (!idPattern.test(containerId)) throw new InvalidArgumentError(`"${containerId}" is no container id`);
    return join(directory, containerId);
  };

  const lowerOf = (chainIds: readonly string[]): string[] =>
    chainIds.length === 0 ? [emptyLayer] : chainIds.map((chainId) => layers.path(chainId)).reverse();

  const prepareRootfsIn: Snapshots["prepareRootfsIn"] = async ({ home, layers: chainIds, users, mountLabel }) => {
    const lower = [...lowerOf(chainIds), mountPoints];
    const upper = join(home, "upper");
    const work = join(home, "work");
    mkdirSync(upper, { mode: 0o755 });
    mkdirSync(work, { mode: 0o700 });
    // the overlay's root directory is the upper one: it has to look like the image's
    const top = statSync(lower[0] as string);
    chownSync(upper, ownerOf(users?.mappings.uids, top.uid), ownerOf(users?.mappings.gids, top.gid));
    chmodSync(upper, top.mode & 0o7777);
    // volatile: an upper directory is mounted once and does not outlive the boot, and without it the end of every
    // container would wait until the kernel has written all that it holds to the disk
    const rootFd = await addon.mountOverlay({
      lower,
      upper,
      work,
      volatile: true,
      ...idmap(users?.fd),
      ...context(mountLabel),
    });
    return { rootFd, upperDirectory: upper };
  };

  const removeRootfs = async (containerId: string): Promise<void> => {
    usages.delete(containerId);
    const doomed = join(directory, `.removed-${process.pid.toString(36)}-${++serial}`);
    try {
      await rename(directoryOf(containerId), doomed);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw error;
    }
    // nobody waits for it, and nobody finds it under its name: what a crash leaves of it goes at the next start
    removeTree(doomed).catch(() => undefined);
  };

  for (const name of await readdir(directory)) {
    // one that resists must not keep the agent from starting
    if (name.startsWith(".removed-")) await removeTree(join(directory, name)).catch(() => undefined);
  }

  return {
    directory,
    imageDirectory: join(root, "layers"),
    async prepareRootfs({ containerId, layers: chainIds, users, mountLabel }) {
      const home = directoryOf(containerId);
      // synchronous: a directory costs less than the way to another thread and back
      mkdirSync(home, { mode: 0o700 });
      try {
        return await prepareRootfsIn({ home, layers: chainIds, users, mountLabel });
      } catch (error) {
        await removeRootfs(containerId);
        throw asStorageError(error, `the root file system of container ${containerId}`);
      }
    },
    prepareRootfsIn,
    mountImage({ layers: chainIds, subPath, userNamespaceFd, mountLabel }) {
      const lower = lowerOf(chainIds);
      // a single layer is shown as it is, with its own labels; two are an overlay
      if (mountLabel !== undefined && lower.length === 1) lower.push(emptyLayer);
      return addon.mountOverlay({ lower, subPath, ...idmap(userNamespaceFd), ...context(mountLabel) });
    },
    removeRootfs,
    async listRootfs() {
      return (await readdir(directory)).filter((name) => !name.startsWith("."));
    },
    async writableLayerUsage(containerId) {
      const upper = join(directoryOf(containerId), "upper");
      const known = usages.get(containerId);
      if (known !== undefined && performance.now() - known.at < usageAgeMs) return known.usage;
      const usage = measure(addon, upper, containerId);
      usages.set(containerId, { at: performance.now(), usage });
      // a failure is not remembered
      usage.catch(() => usages.delete(containerId));
      return usage;
    },
    imageFsUsage() {
      let bytes = 0;
      let inodes = 0;
      for (const layer of layers.list()) {
        bytes += layer.bytes;
        inodes += layer.inodes;
      }
      return { bytes, inodes, timestamp: nowNs() };
    },
  };
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

async function measure(addon: SnapshotsNative, upper: string, containerId: string): Promise<DiskUsage> {
  const timestamp = nowNs();
  try {
    return { ...(await addon.diskUsage(upper)), timestamp };
  } catch (error) {
    throw new NotFoundError(
      `the writable layer of container ${containerId} could not be measured: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

/** A full disk or used-up quota is the machine's state, not a fault of ours. */
function asStorageError(error: unknown, what: string): unknown {
  const name = (error as { code?: unknown }).code ?? (error as { errnoName?: unknown }).errnoName;
  if (name !== "ENOSPC" && name !== "EDQUOT") return error;
  return new ResourceExhaustedError(`no space is left for ${what}: ${messageOf(error)}`, { cause: error });
}
