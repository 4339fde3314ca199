/**
 * Unpacked layers by chain id. A layer is complete or absent: it is made in a staging directory and renamed into its
 * place together with its record. What a crash leaves in staging or half removed is swept when the store is opened, and so
 * are layers that a crash of the machine may have left without their content (see unsynced-layers.ts).
 *
 *   layers/<first 32 hex digits of the chain id>/fs      the layer, as the storage driver wants it
 *   layers/<...>/layer.json                              StoredRecord
 *   layers/.staging-<n>/, layers/.removed-<n>/           swept at open
 */
import { readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { native } from "../../native/binding.js";
import { InternalError, InvalidArgumentError } from "../errors.js";
import { Serial } from "../serial.js";
import { filesOf, type StorageDriver, showFiles } from "./drivers/driver.js";
import { openOverlayDriver } from "./drivers/overlay.js";
import { tryAgain } from "./try-again.js";
import { UnsyncedLayers } from "./unsynced-layers.js";

export interface LayerRecord {
  /** "sha256:<hex>" of the OCI image specification */
  chainId: string;
  /** digest of the uncompressed layer */
  diffId: string;
  /** on disk, uncompressed */
  bytes: number;
  inodes: number;
  /** nothing of the layers below it shows through */
  hidesBelow?: true;
}

/** As it is on the disk. */
export interface StoredRecord extends LayerRecord {
  /** the boot in which the layer was made; absent: it is surely on the disk, whole */
  unsyncedIn?: string;
}

/** A layer in the making. */
export interface LayerStaging {
  chainId: string;
  /** where the layer's files are to be put; mode 0755, empty */
  directory: string;
}

export interface LayerStore {
  readonly driver: StorageDriver;
  /** the directory that has all layers' homes in it */
  readonly directory: string;
  has(chainId: string): boolean;
  /** The layer's directory, which some drivers show only when they are asked to. @throws InternalError when the layer is not there */
  path(chainId: string): string;
  /** Sees to it that the layers' directories can be read until the answered function is called. */
  show(chainIds: readonly string[]): Promise<() => Promise<void>>;
  /** The directory that the driver keeps the layer in. @throws InternalError when the layer is not there */
  home(chainId: string): string;
  /** Of an image's layers, bottom first, those of which something can be seen: nothing below one that hides all below it. */
  shown(chainIds: readonly string[]): readonly string[];
  list(): LayerRecord[];
  /**
   * Makes a place for a layer in the making.
   * @param parent chain id of the layer below; a driver of whole trees wants it to be in the store by then
   */
  stage(chainId: string, parent?: string): Promise<LayerStaging>;
  /** Makes the staged layer visible. When somebody committed the same layer before, that one stays. */
  commit(staging: LayerStaging, result: Omit<LayerRecord, "chainId">): Promise<LayerRecord>;
  /** Removes what was staged; committed or aborted already is success. */
  abort(staging: LayerStaging): Promise<void>;
  /** The layer is gone for everybody when this resolves; its files are deleted after that. Absent is success. */
  remove(chainId: string): Promise<void>;
  /** Names in the directory of what is in the making or being deleted. */
  busy(): ReadonlySet<string>;
  /** Takes away what is there under a name of the directory, and all that was known of it. */
  discard(name: string): Promise<void>;
  /** Waits for deletions that still run. */
  settle(): Promise<void>;
}

/**
 * @param root the agent's state directory; the store is `<root>/layers`
 * @param opened the driver that all of its layers are of; overlay when none is given
 * @param bootId the kernel's
 */
export async function openLayerStore(
  root: string,
  opened?: StorageDriver,
  bootId: string = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
): Promise<LayerStore> {
  const driver = opened ?? (await openOverlayDriver(root));
  const base = join(root, "layers");
  await mkdir(base, { recursive: true, mode: 0o700 });
  // on ext4, making files is slow in a block group where many were deleted a minute before: each layer gets one of its own
  native.spreadSubdirectories(base);
  const records = new Map<string, LayerRecord>();
  const deletions = new Set<Promise<void>>();
  const busy = new Set<string>();
  const commits = new Serial();
  let serial = 0;

  const directoryOf = (chainId: string): string => join(base, directoryName(chainId));
  const uniqueName = (prefix: string): string => join(base, `${prefix}${process.pid.toString(36)}-${++serial}`);
  const deleteLater = (directory: string, tries = 0): void => {
    const name = basename(directory);
    busy.add(name);
    const deletion = driver.remove(directory).then(
      () => void busy.delete(name),
      // what cannot be deleted in the end is swept at the next open
      () => void (tryAgain(tries, () => deleteLater(directory, tries + 1)) || busy.delete(name)),
    );
    deletions.add(deletion);
    void deletion.finally(() => deletions.delete(deletion));
  };
  /** Out of everybody's sight at once, and deleted after that. */
  const removeLater = async (name: string): Promise<void> => {
    const removed = uniqueName(".removed-");
    await rename(join(base, name), removed);
    deleteLater(removed);
  };

  const unsynced = new UnsyncedLayers(base, async (chainId) => {
    const record = records.get(chainId);
    if (record === undefined) return;
    const path = join(directoryOf(chainId), "layer.json");
    try {
      await writeFile(`${path}.new`, textOf(record), { mode: 0o600 });
      await rename(`${path}.new`, path);
    } catch (error) {
      await rm(`${path}.new`, { force: true });
      // it was removed meanwhile
      if (records.has(chainId)) throw error;
    }
  });

  for (const name of await readdir(base)) {
    const directory = join(base, name);
    const { unsyncedIn, ...record } = (name.startsWith(".") ? undefined : await readRecord(directory)) ?? {};
    const isWhole = unsyncedIn === undefined || unsyncedIn === bootId;
    if (isLayerRecord(record) && isWhole && directoryName(record.chainId) === name) {
      records.set(record.chainId, record);
      if (unsyncedIn !== undefined) unsynced.add(record.chainId);
    } else if (name.startsWith(".")) deleteLater(directory);
    else await removeLater(name);
  }

  const abort = async (staging: LayerStaging): Promise<void> => {
    const home = dirname(staging.directory);
    await driver.remove(home);
    busy.delete(basename(home));
  };
  const home = (chainId: string): string => {
    if (!records.has(chainId)) throw new InternalError(`layer ${chainId} is not in the store`);
    return directoryOf(chainId);
  };

  return {
    driver,
    directory: base,
    has: (chainId) => records.has(chainId),
    path: (chainId) => filesOf(home(chainId)),
    show: (chainIds) => showFiles(driver, chainIds.map(home)),
    home,
    shown(chainIds) {
      const hiding = chainIds.findLastIndex((chainId) => records.get(chainId)?.hidesBelow);
      return hiding < 0 ? chainIds : chainIds.slice(hiding);
    },
    list: () => [...records.values()],
    async stage(chainId, parent) {
      directoryName(chainId);
      const staging = uniqueName(".staging-");
      busy.add(basename(staging));
      try {
        await driver.remove(staging);
        await mkdir(staging, { mode: 0o700 });
        const below = parent === undefined || !driver.wholeTrees ? undefined : home(parent);
        await driver.makeLayer({ home: staging, parent: below });
        return { chainId, directory: filesOf(staging) };
      } catch (error) {
        await driver.remove(staging);
        busy.delete(basename(staging));
        throw error;
      }
    },
    commit: (staging, result) =>
      commits.run(staging.chainId, async () => {
        const existing = records.get(staging.chainId);
        if (existing !== undefined) {
          await abort(staging);
          return existing;
        }
        const record: LayerRecord = { chainId: staging.chainId, ...result };
        const directory = dirname(staging.directory);
        await driver.sealLayer(directory);
        await writeFile(join(directory, "layer.json"), textOf({ ...record, unsyncedIn: bootId }), { mode: 0o600 });
        await rename(directory, directoryOf(staging.chainId));
        records.set(record.chainId, record);
        busy.delete(basename(directory));
        unsynced.add(record.chainId);
        return record;
      }),
    abort,
    async remove(chainId) {
      if (records.delete(chainId)) await removeLater(directoryName(chainId)).catch(unlessGone);
    },
    busy: () => new Set(busy),
    async discard(name) {
      for (const chainId of records.keys()) if (directoryName(chainId) === name) records.delete(chainId);
      await removeLater(name).catch(unlessGone);
    },
    async settle() {
      while (deletions.size > 0) await Promise.all(deletions);
    },
  };
}

function unlessGone(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}

/** Short, because before Linux 6.8 an overlay's options end at 255 bytes each. */
function directoryName(chainId: string): string {
  const match = /^sha256:([0-9a-f]{32})[0-9a-f]{32}$/.exec(chainId);
  if (match?.[1] === undefined) throw new InvalidArgumentError(`"${chainId}" is no chain id`);
  return match[1];
}

function textOf(record: StoredRecord): string {
  return `${JSON.stringify(record)}\n`;
}

async function readRecord(directory: string): Promise<Partial<StoredRecord> | undefined> {
  try {
    return JSON.parse(await readFile(join(directory, "layer.json"), "utf8")) as Partial<StoredRecord>;
  } catch {
    return undefined;
  }
}

function isLayerRecord(record: Partial<LayerRecord>): record is LayerRecord {
  return typeof record.chainId === "string" && typeof record.bytes === "number";
}
