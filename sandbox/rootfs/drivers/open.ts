/** Chooses the storage driver, and sees that what is in the store was made by the same one. */
import { mkdirSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FailedPreconditionError } from "../../errors.js";
import { openBtrfsDriver } from "./btrfs.js";
import { openCopyDriver } from "./copy.js";
import { openDevmapperDriver } from "./devmapper.js";
import type { StorageDriver, StorageDriverName } from "./driver.js";
import { openOverlayDriver } from "./overlay.js";
import type { ThinPoolOptions } from "./thin-pool.js";

export type { ThinPoolOptions };

const gibibyte = 1024 ** 3;

/**
 * @param root the agent's state directory; `<root>/storage-driver` names the driver that its layers and containers are of
 * @param thinPool for devmapper
 * @throws FailedPreconditionError when the driver cannot work there, or what is there is another one's
 */
export async function openStorageDriver(
  name: StorageDriverName,
  root: string,
  thinPool: ThinPoolOptions = { sizeBytes: 100 * gibibyte, deviceBytes: 10 * gibibyte },
): Promise<StorageDriver> {
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const note = join(root, "storage-driver");
  const before = await readNote(note);
  if (before !== name && (await holdsAnything(root))) {
    // stores that are older than the note are overlay's
    const owner = before ?? "overlay";
    if (owner !== name) {
      throw new FailedPreconditionError(
        `storage-driver ${name}: the layers and containers in ${root} are of the driver ${owner}; ` +
          `start with storage-driver ${owner} and remove all pods and images, or take another root`,
      );
    }
  }
  const driver = await open(name, root, thinPool);
  if (before !== name) await writeFile(note, `${name}\n`, { mode: 0o600 });
  return driver;
}

function open(name: StorageDriverName, root: string, thinPool: ThinPoolOptions): Promise<StorageDriver> {
  switch (name) {
    case "overlay":
      return openOverlayDriver(root);
    case "btrfs":
      return openBtrfsDriver(root);
    case "copy":
      return openCopyDriver(root);
    case "devmapper":
      return openDevmapperDriver(root, thinPool);
    default:
      return name satisfies never;
  }
}

async function readNote(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function holdsAnything(root: string): Promise<boolean> {
  for (const name of ["layers", "containers"]) {
    const names = await readdir(join(root, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    if (names.length > 0) return true;
  }
  return false;
}
