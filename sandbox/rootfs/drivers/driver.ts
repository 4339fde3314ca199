/**
 * How layers and the root file systems of containers lie on the disk. A driver works within directories ("homes") that its
 * callers make, name, rename and list: one for each layer, and one for each container.
 */
import { join } from "node:path";
import type { UserNamespace } from "../../spec/user-namespace.js";
import type { TreeUsage } from "../paced-walks.js";

export const storageDriverNames = ["overlay", "btrfs", "copy", "devmapper"] as const;
export type StorageDriverName = (typeof storageDriverNames)[number];

export interface Rootfs {
  /** a detached mount; the caller closes it */
  rootFd: number;
  /** overlay: what the container has written; other drivers: the whole root, of which that is a part */
  upperDirectory: string;
}

/** A user namespace whose ids the image's files are shown with; they stay as they are. */
export interface MappedIds {
  mappings: UserNamespace;
  fd: number;
}

export interface RootOptions {
  /** the container's home: it exists and is empty */
  home: string;
  /** homes of the image's layers, bottom first */
  layers: readonly string[];
  users?: MappedIds | undefined;
  /** SELinux label of all files */
  mountLabel?: string | undefined;
  /** how much the container may write to its root; FailedPreconditionError where the file system cannot see to that */
  limitBytes?: number | undefined;
}

export interface ImageMountOptions {
  /** homes of the image's layers, bottom first; they must stay as long as the mount is used */
  layers: readonly string[];
  /** of this directory or file, resolved within the image, links and all; empty: of everything */
  subPath: string;
  /** ids are shown as this user namespace maps them */
  userNamespaceFd?: number | undefined;
  /** SELinux label of all files */
  mountLabel?: string | undefined;
}

export interface StorageDriver {
  readonly name: StorageDriverName;
  /**
   * A layer is a whole tree: that of the layer below with its own entries applied. Then the layer below must be in the store
   * before. False: a layer is its own entries alone, with whiteouts as overlayfs has them.
   */
  readonly wholeTrees: boolean;
  /** Makes the place for a layer's files, filesOf(home), in an empty home. @param parent home of the layer below */
  makeLayer(options: { home: string; parent: string | undefined }): Promise<void>;
  /** The layer's files will not change any more. Its home gets its name after that. */
  sealLayer(home: string): Promise<void>;
  /** Makes a container's writable root. What it leaves when it fails, remove() takes away. */
  makeRoot(options: RootOptions): Promise<Rootfs>;
  /** A detached, read-only mount of an image's content; the caller closes it. */
  mountImage(options: ImageMountOptions): Promise<number>;
  /** What to compare a container's root with, to see what it has changed. @param options.home the container's */
  comparisonOf(options: { home: string; layers: readonly string[] }): { upper: string; lower: string[] };
  /** Removes the home of a layer or of a container with all that is in it; already gone is success. */
  remove(home: string): Promise<void>;
  /**
   * Makes the files of layers and of containers' roots readable at filesOf(home), until the answered function is called. Absent:
   * they always are.
   */
  show?(homes: readonly string[]): Promise<() => Promise<void>>;
  /** Lets go what it holds of the kernel's; what runs keeps what it needs. */
  close?(): void;
  /** What a container has written. ENOENT: it has no root. @param walk counts a tree, in its own time */
  usage(home: string, walk: (directory: string) => Promise<TreeUsage>): Promise<TreeUsage>;
}

/** See StorageDriver.show. */
export async function showFiles(driver: StorageDriver, homes: readonly string[]): Promise<() => Promise<void>> {
  return driver.show === undefined ? async () => {} : driver.show(homes);
}

/** Where a layer's files are. */
export function filesOf(home: string): string {
  return join(home, "fs");
}
