/**
 * A thin pool of the device mapper: many block devices of a fixed size which take what has been written to them, and
 * snapshots of them that share all blocks of which nobody has written other ones.
 *
 *   <root>/devmapper/metadata    which block is whose; a sparse file behind a loop device
 *   <root>/devmapper/data        the blocks; the same, when no device is given
 *
 * The pool and its devices are the kernel's, and none of them outlives its users: the agent holds the pool open, a mount holds
 * its device, a device holds the pool, and all are marked to go with the last one who has them open.
 */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { mkdir, open, readdir, readFile, realpath, stat, statfs, truncate } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { isSystemError, native } from "../../../native/binding.js";
import { FailedPreconditionError, ResourceExhaustedError } from "../../errors.js";
import { Serial } from "../../serial.js";

export interface ThinPoolOptions {
  /** a block device for the blocks; absent: a sparse file in the state directory */
  device?: string | undefined;
  /** of that file */
  sizeBytes: number;
  /** of each thin device */
  deviceBytes: number;
}

const sectorBytes = 512;
/** In sectors: 64 KiB. A write to a block that is shared copies all of it, so small ones; the table stays small enough. */
const blockSectors = 128;
/** The table takes less than this part of what it describes. */
const dataPerMetadata = 256;
const leastMetadataBytes = 16 * 1024 ** 2;
/** As far as one metadata device reaches (linux/drivers/md/dm-thin-metadata.h). */
const mostMetadataBytes = 15 * 1024 ** 3;
const mostIds = 2 ** 24;
/** Without so much nothing new is begun: what is there shall be able to go on. */
const reserveBytes = 64 * 1024 ** 2;
/** A mount that is going, or a program that looks at each new device, has it open for a moment. */
const busyTries = 500;
const busyMs = 20;

export class ThinPool {
  readonly #prefix: string;
  readonly #serial = new Serial();

  private constructor(
    private readonly root: string,
    private readonly options: ThinPoolOptions,
    private readonly held: number,
  ) {
    this.#prefix = prefixOf(root);
  }

  /** @param path the agent's state directory. @throws FailedPreconditionError when there can be none */
  static async open(path: string, options: ThinPoolOptions): Promise<ThinPool> {
    const root = await realpath(path);
    const name = `${prefixOf(root)}pool`;
    await mkdir(join(root, "devmapper"), { recursive: true, mode: 0o700 });
    // what goes with the last user may go just now: then it is made anew
    for (let tries = 1; ; tries++) {
      let held: number | undefined;
      try {
        held = openSync(await poolPath(name, root, options), "r");
        await native.removeDevice(name, true);
        const pool = new ThinPool(root, options, held);
        await pool.#sweep();
        return pool;
      } catch (error) {
        if (held !== undefined) closeSync(held);
        const isOther = isSystemError(error) && error.errnoName === "EBUSY";
        if (!(isGone(error) || isOther) || tries === busyTries) throw error;
        await pause(busyMs);
      }
    }
  }

  /** What runs on it keeps it. */
  close(): void {
    closeSync(this.held);
  }

  /** Devices that an agent which was killed had made, but not mounted yet. */
  async #sweep(): Promise<void> {
    for (const name of await native.listDevices()) {
      if (!name.startsWith(this.#prefix) || name === this.#poolName) continue;
      await native.removeDevice(name, true).catch(unlessGone);
    }
  }

  get #poolName(): string {
    return `${this.#prefix}pool`;
  }

  #nameOf(id: number): string {
    return `${this.#prefix}${id}`;
  }

  /** An id that is probably free; somebody notes it before he makes the device. */
  newId(): number {
    return 1 + Math.floor(Math.random() * (mostIds - 1));
  }

  /** An empty device. EEXIST: the id is taken. */
  async create(id: number): Promise<void> {
    await native.messageDevice(this.#poolName, `create_thin ${id}`);
  }

  /** A device with the content of another one, which nobody may be writing. EEXIST: the id is taken. */
  async snapshot(id: number, origin: number): Promise<void> {
    await this.#checkRoom();
    await native.messageDevice(this.#poolName, `create_snap ${id} ${origin}`);
  }

  /** Its path, made ready; it goes when it was open and is closed by the last one. */
  async activate(id: number, readOnly: boolean): Promise<string> {
    const name = this.#nameOf(id);
    try {
      return await native.createDevice({
        name,
        target: "thin",
        parameters: `${await this.#poolPath()} ${id}`,
        sectors: this.options.deviceBytes / sectorBytes,
        readOnly,
      });
    } catch (error) {
      if (!isSystemError(error) || error.errnoName !== "EBUSY") throw error;
      return (await native.deviceStatus(name)).path;
    }
  }

  /** Uses a device in a way that keeps it open, as a mount or a descriptor does. @returns what `use` does */
  hold<T>(id: number, readOnly: boolean, use: (path: string) => Promise<T>): Promise<T> {
    return this.#serial.run(String(id), async () => {
      for (let tries = 1; ; tries++) {
        try {
          const result = await use(await this.activate(id, readOnly));
          await native.removeDevice(this.#nameOf(id), true).catch(unlessGone);
          return result;
        } catch (error) {
          if (isGone(error) && tries < busyTries) {
            await pause(busyMs);
            continue;
          }
          await native.removeDevice(this.#nameOf(id), true).catch(() => undefined);
          throw error;
        }
      }
    });
  }

  /** Waits until nobody has it open. @throws SystemError (EBUSY) when somebody keeps it for ten seconds */
  async deactivate(id: number): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await native.removeDevice(this.#nameOf(id), false);
      } catch (error) {
        if (isGone(error)) return;
        if (!isSystemError(error) || error.errnoName !== "EBUSY" || tries === busyTries) throw error;
        await pause(busyMs);
      }
    }
  }

  /** Gives back what it has for itself. There being none is success. */
  async remove(id: number): Promise<void> {
    await this.deactivate(id);
    // the pool forgets whose blocks they were, but does not tell the file or device below, unless it is told first
    await this.#discard(id).catch(() => undefined);
    await this.deactivate(id);
    for (let tries = 1; ; tries++) {
      try {
        return await native.messageDevice(this.#poolName, `delete ${id}`);
      } catch (error) {
        if (!isSystemError(error)) throw error;
        if (error.errnoName === "ENODATA") return;
        // the device's name is gone before the pool has closed it
        if (error.errnoName !== "EBUSY" || tries === busyTries) throw error;
        await pause(busyMs);
      }
    }
  }

  async #discard(id: number): Promise<void> {
    const fd = await this.hold(id, false, async (path) => openSync(path, "r+"));
    try {
      await native.discardDevice(fd);
    } finally {
      closeSync(fd);
    }
  }

  async #poolPath(): Promise<string> {
    return (await native.deviceStatus(this.#poolName)).path;
  }

  /** @throws ResourceExhaustedError when the pool is (nearly) full, or cannot be written any more */
  async #checkRoom(): Promise<void> {
    const { status } = await native.deviceStatus(this.#poolName);
    const { freeBytes, freeMetadata, isWritable } = parseStatus(status);
    if (!isWritable) throw new ResourceExhaustedError(`the thin pool of ${this.root} cannot be written: "${status}"`);
    if (freeBytes < reserveBytes || freeMetadata < 0.02) {
      throw new ResourceExhaustedError(`the thin pool of ${this.root} is full: "${status}"`);
    }
    const { bavail, bsize } = await statfs(this.root);
    if (bavail * bsize < reserveBytes && this.options.device === undefined) {
      throw new ResourceExhaustedError(`no space is left in ${this.root} for its thin pool`);
    }
  }

  /** Of what was written: that it found its place. @throws ResourceExhaustedError */
  checkWritten(): Promise<void> {
    return this.#checkRoom();
  }
}

/** Part of the kernel's names of all agents' devices. */
function prefixOf(root: string): string {
  return `berth-${createHash("sha256").update(root).digest("hex").slice(0, 12)}-`;
}

async function poolPath(name: string, root: string, options: ThinPoolOptions): Promise<string> {
  try {
    return (await native.deviceStatus(name)).path;
  } catch (error) {
    if (isSystemError(error) && error.errnoName === "ENXIO") return makePool(name, root, options);
    if (!isSystemError(error) || !["ENOENT", "ENODEV"].includes(error.errnoName)) throw error;
    throw new FailedPreconditionError(
      "storage-driver devmapper: the kernel has no device mapper (modules dm_mod and dm_thin_pool)",
      { cause: error },
    );
  }
}

async function makePool(name: string, root: string, options: ThinPoolOptions): Promise<string> {
  const [metadataFile, dataFile] = [join(root, "devmapper", "metadata"), join(root, "devmapper", "data")];
  const isNew = (await sizeOf(metadataFile)) === 0;
  // a pool that is going has them until its last write is done
  await untilDetached([metadataFile, dataFile]);
  const loops: number[] = [];
  const attach = async (path: string): Promise<string> => {
    const { fd, device } = await native.attachLoop({ path, direct: path === dataFile });
    loops.push(fd);
    return device;
  };
  try {
    let data = options.device;
    if (data === undefined) {
      await grow(dataFile, options.sizeBytes);
      data = await attach(dataFile);
    } else if (isNew) checkIsEmpty(data);
    const dataBytes = await native.blockDeviceSize(data);
    const wanted = Math.min(Math.max(leastMetadataBytes, dataBytes / dataPerMetadata), mostMetadataBytes);
    await grow(metadataFile, Math.ceil(wanted / 4096) * 4096);
    const metadata = await attach(metadataFile);
    const blocks = Math.floor(dataBytes / (blockSectors * sectorBytes));
    return await native.createDevice({
      name,
      target: "thin-pool",
      // what is read before it was written is for ext4 to know; on a full pool writing fails instead of waiting
      parameters: `${metadata} ${data} ${blockSectors} 0 2 skip_block_zeroing error_if_no_space`,
      sectors: blocks * blockSectors,
    });
  } catch (error) {
    if (!isSystemError(error) || error.errnoName !== "EINVAL" || error.syscall !== "DM_TABLE_LOAD") throw error;
    throw new FailedPreconditionError(
      "storage-driver devmapper: the kernel makes no thin pool: module dm_thin_pool is missing, or " +
        `${metadataFile} does not belong to the data (the kernel's log tells which)`,
      { cause: error },
    );
  } finally {
    // the pool has them open
    for (const fd of loops) native.closeDescriptor(fd);
  }
}

async function untilDetached(files: readonly string[]): Promise<void> {
  const lines = new Set(files.map((file) => `${file}\n`));
  for (let tries = 1; ; tries++) {
    const devices = (await readdir("/sys/block")).filter((name) => name.startsWith("loop"));
    const backing = await Promise.all(
      devices.map((name) => readFile(`/sys/block/${name}/loop/backing_file`, "utf8").catch(() => "")),
    );
    const used = backing.find((line) => lines.has(line));
    if (used === undefined) return;
    if (tries === busyTries) throw new FailedPreconditionError(`storage-driver devmapper: ${used.trim()} is in use`);
    await pause(busyMs);
  }
}

/** A pool is begun on a device only when nothing is on it. */
function checkIsEmpty(device: string): void {
  const begin = Buffer.alloc(1024 ** 2);
  const fd = openSync(device, "r");
  try {
    const length = readSync(fd, begin);
    if (begin.subarray(0, length).every((byte) => byte === 0)) return;
  } finally {
    closeSync(fd);
  }
  throw new FailedPreconditionError(
    `devmapper-device ${device}: there is something on it; if that may go, clear it by blkdiscard or by writing zeros to its first MiB`,
  );
}

/** Makes a sparse file, or one larger. */
async function grow(path: string, bytes: number): Promise<void> {
  const file = await open(path, "a", 0o600);
  await file.close();
  if ((await sizeOf(path)) < bytes) await truncate(path, bytes);
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

/** Documentation/admin-guide/device-mapper/thin-provisioning.rst, "Status". */
export function parseStatus(status: string): { freeBytes: number; freeMetadata: number; isWritable: boolean } {
  const match = /^\d+ (\d+)\/(\d+) (\d+)\/(\d+) \S+ (\S+)/.exec(status);
  if (match === null) return { freeBytes: 0, freeMetadata: 0, isWritable: false };
  const [usedMetadata = 0, metadata = 0, used = 0, all = 0] = match.slice(1, 5).map(Number);
  return {
    freeBytes: (all - used) * blockSectors * sectorBytes,
    freeMetadata: (metadata - usedMetadata) / metadata,
    isWritable: match[5] === "rw",
  };
}

/** The device went between two calls. */
function isGone(error: unknown): boolean {
  if (isSystemError(error)) return ["ENXIO", "ENODEV", "ENOENT"].includes(error.errnoName);
  return ["ENXIO", "ENODEV", "ENOENT"].includes((error as NodeJS.ErrnoException).code ?? "");
}

function unlessGone(error: unknown): void {
  if (!isGone(error)) throw error;
}
