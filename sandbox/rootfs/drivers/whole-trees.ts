/** What the drivers have in common whose layers and roots are whole trees. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isSystemError, native } from "../../../native/binding.js";
import { FailedPreconditionError } from "../../errors.js";
import type { TreeUsage } from "../paced-walks.js";
import { filesOf, type ImageMountOptions } from "./driver.js";

/** Keeps what a container's root takes when it is made. */
export async function noteUsage(home: string, usage: TreeUsage): Promise<void> {
  await writeFile(join(home, usageNote), JSON.stringify(usage), { mode: 0o600 });
}

export async function notedUsage(home: string): Promise<TreeUsage> {
  return JSON.parse(await readFile(join(home, usageNote), "utf8")) as TreeUsage;
}

/** What it takes more now: what it has removed of the image makes place for what it writes. */
export async function usageSince(home: string, walk: (directory: string) => Promise<TreeUsage>): Promise<TreeUsage> {
  const now = await walk(filesOf(home));
  const before = await notedUsage(home);
  return { bytes: Math.max(0, now.bytes - before.bytes), inodes: Math.max(0, now.inodes - before.inodes) };
}

const usageNote = "usage.json";

/** linux/mount.h */
const MOUNT_ATTR_NOSUID = 0x2;
const MOUNT_ATTR_NODEV = 0x4;
const MOUNT_ATTR_NOEXEC = 0x8;
const MS_PRIVATE = 0x40000;

/**
 * A detached mount of a container's own tree; the caller closes it.
 * @param mountLabel SELinux label that all of its files get
 */
export async function openTreeAsRoot(
  directory: string,
  userNamespaceFd: number | undefined,
  mountLabel: string | undefined,
): Promise<number> {
  if (mountLabel !== undefined) await labelTree(directory, mountLabel);
  return explainIdmap(
    directory,
    native.openTree({
      path: directory,
      recursive: false,
      // how the agent's state directory is mounted is nothing to a container
      // nor are its peers, where mounts are shared (systemd makes all of them so): what is mounted inside would be seen there
      attributes: { clear: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, propagation: MS_PRIVATE },
      ...(userNamespaceFd !== undefined && { userNamespaceFd }),
    }),
  );
}

async function labelTree(directory: string, label: string): Promise<void> {
  const fd = native.openPath(directory);
  try {
    await native.relabelTree({ fd, path: directory, label });
  } finally {
    native.closeDescriptor(fd);
  }
}

/**
 * A detached, read-only mount of a layer's tree, or of a part of it.
 * @param below see makeEmptyLayer; with it the tree is an overlay, which can have a label of its own
 */
export function showImage(
  directory: string,
  below: string,
  { subPath, userNamespaceFd, mountLabel }: Omit<ImageMountOptions, "layers">,
): Promise<number> {
  return explainIdmap(
    directory,
    native.mountOverlay({
      lower: mountLabel === undefined ? [directory] : [directory, below],
      subPath,
      ...(userNamespaceFd !== undefined && { userNamespaceFd }),
      ...(mountLabel !== undefined && { context: mountLabel }),
    }),
  );
}

async function explainIdmap(directory: string, mount: Promise<number>): Promise<number> {
  try {
    return await mount;
  } catch (error) {
    if (!isSystemError(error) || !error.syscall.startsWith("mount_setattr") || error.errnoName !== "EINVAL")
      throw error;
    throw new FailedPreconditionError(
      `pods with a user namespace: the file system of ${directory} cannot show its files with other ids`,
      { cause: error },
    );
  }
}
