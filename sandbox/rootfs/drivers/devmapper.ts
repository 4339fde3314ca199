/**
 * Thin snapshots of the device mapper: a layer is an ext4 file system with a whole tree, on a device that began as a snapshot
 * of the layer's below; a container's root is a snapshot of the topmost one. A device is there only as long as it is
 * mounted, and mounts are detached ones, but for a layer in the making and for what somebody compares or reads: that is
 * mounted at filesOf(home).
 *
 *   <home>/device.json       the device's id in the pool, noted before it is made
 *   <root>/devmapper/base.json   device 0, the empty file system that the others begin as, is made
 */
import { execFile } from "node:child_process";
import { chmod, mkdir, readFile, realpath, rmdir, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { isSystemError, native } from "../../../native/binding.js";
import { FailedPreconditionError, messageOf } from "../../errors.js";
import { Serial } from "../../serial.js";
import type { TreeUsage } from "../paced-walks.js";
import { filesOf, type StorageDriver } from "./driver.js";
import { makeEmptyLayer, makeMountPoints } from "./own-trees.js";
import { ThinPool, type ThinPoolOptions } from "./thin-pool.js";
import { notedUsage, noteUsage, showImage } from "./whole-trees.js";

const run = promisify(execFile);

interface Device {
  id: number;
  /** SELinux label of all files */
  context?: string;
}

/**
 * Without a journal: a layer is synced and unmounted before it counts, and a container's root does not outlive the boot. The
 * quota is for what a container may write.
 */
const mkfsOptions = ["-q", "-F", "-m", "0", "-I", "256", "-O", "^has_journal,^resize_inode,quota,project"];
const mkfsExtended = ["-E", "quotatype=prjquota,lazy_itable_init=1,nodiscard"];
/** Lazily made tables stay unwritten, and what is deleted goes back to the pool. */
const written = ["noinit_itable", "discard", "errors=remount-ro"];
/** Nobody waits for the disk for what does not outlive the boot. */
const rootOptions = [...written, "nobarrier"];
const baseId = 0;
/** Devices are of whole ones. */
const deviceUnit = 64 * 1024;
/** All files that nobody has put into a project are in this one. */
const wholeProject = 0;

/** @param root the agent's state directory */
export async function openDevmapperDriver(root: string, options: ThinPoolOptions): Promise<StorageDriver> {
  const before = await readBase(root);
  const deviceBytes = before?.deviceBytes ?? Math.ceil(options.deviceBytes / deviceUnit) * deviceUnit;
  const pool = await ThinPool.open(root, { ...options, deviceBytes });
  await unmountAllBelow(await realpath(root));
  const { emptyLayer, below } = await makeEmptyLayer(root);
  const mountPoints = await makeMountPoints(root);
  if (before === undefined) await makeBase(root, pool, deviceBytes);
  const turns = new Serial();
  const shown = new Map<string, number>();

  /** Begins a home's device as a snapshot of another one; the id is noted first. */
  const begin = async (home: string, origin: string | undefined, context?: string): Promise<Device> => {
    const from = origin === undefined ? baseId : (await deviceOf(origin)).id;
    for (;;) {
      const device: Device = { id: pool.newId(), ...(context !== undefined && { context }) };
      await writeFile(join(home, deviceNote), JSON.stringify(device), { mode: 0o600 });
      try {
        await pool.snapshot(device.id, from);
        return device;
      } catch (error) {
        await writeFile(join(home, deviceNote), "");
        if (!isSystemError(error) || error.errnoName !== "EEXIST") throw error;
      }
    }
  };
  const mountWritable = ({ id, context }: Device, more: Partial<Parameters<typeof native.mountBlock>[0]> = {}) =>
    pool.hold(id, false, (device) =>
      native.mountBlock({
        device,
        type: "ext4",
        options: rootOptions,
        ...(context !== undefined && { context }),
        ...more,
      }),
    );
  const mountLayer = ({ id }: Device, more: Partial<Parameters<typeof native.mountBlock>[0]> = {}) =>
    pool.hold(id, true, (device) => native.mountBlock({ device, type: "ext4", readOnly: true, ...more }));

  const hide = async (home: string): Promise<void> => {
    const users = (shown.get(home) ?? 1) - 1;
    if (users > 0) return void shown.set(home, users);
    shown.delete(home);
    await unmountIfMounted(filesOf(home));
  };
  const show = async (home: string): Promise<void> => {
    const users = shown.get(home) ?? 0;
    shown.set(home, users + 1);
    if (users > 0) return;
    try {
      await mkdir(filesOf(home), { recursive: true });
      const device = await deviceOf(home);
      const isLayer = await isSealed(home);
      await attach(isLayer ? await mountLayer(device) : await mountWritable(device, { mountReadOnly: true }), home);
    } catch (error) {
      shown.delete(home);
      throw error;
    }
  };

  const showAll = async (homes: readonly string[]): Promise<() => Promise<void>> => {
    const done: string[] = [];
    const hideAll = async (): Promise<void> => {
      for (const home of done.splice(0)) await turns.run(home, () => hide(home));
    };
    try {
      for (const home of homes) {
        await turns.run(home, () => show(home));
        done.push(home);
      }
    } catch (error) {
      await hideAll();
      throw error;
    }
    return hideAll;
  };

  return {
    name: "devmapper",
    wholeTrees: true,
    async makeLayer({ home, parent }) {
      const device = await begin(home, parent);
      await mkdir(filesOf(home), { mode: 0o755 });
      const fd = await pool.hold(device.id, false, (path) =>
        native.mountBlock({ device: path, type: "ext4", options: written }),
      );
      await attach(fd, home);
    },
    async sealLayer(home) {
      try {
        await native.syncFileSystem(filesOf(home));
      } catch (error) {
        await pool.checkWritten();
        throw error;
      }
      const usage = await usageOf(filesOf(home));
      await native.unmount(filesOf(home));
      // from here on it is a file system that nobody has open: what is made of it begins whole
      await pool.deactivate((await deviceOf(home)).id);
      await pool.checkWritten();
      await noteUsage(home, usage);
    },
    async makeRoot({ home, layers, users, mountLabel, limitBytes }) {
      const top = layers.at(-1);
      const device = await begin(home, top, mountLabel);
      const rootFd = await mountWritable(device, {
        ...(users !== undefined && { userNamespaceFd: users.fd }),
        ...(limitBytes !== undefined && { options: [...rootOptions, "prjquota"] }),
      });
      try {
        const path = `/proc/self/fd/${rootFd}/.`;
        await noteUsage(home, await usageOf(path));
        if (limitBytes !== undefined) {
          const { bytes } = await native.projectUsage(path, wholeProject);
          await native.limitProject({ path, project: wholeProject, limitBytes: bytes + limitBytes });
        }
        return { rootFd, upperDirectory: filesOf(home) };
      } catch (error) {
        native.closeDescriptor(rootFd);
        throw error;
      }
    },
    async mountImage({ layers, ...options }) {
      const { subPath, userNamespaceFd, mountLabel } = options;
      const top = layers.at(-1);
      if (top === undefined) return showImage(emptyLayer, below, options);
      if (mountLabel === undefined) {
        return mountLayer(await deviceOf(top), { subPath, ...(userNamespaceFd !== undefined && { userNamespaceFd }) });
      }
      // a file system has one label, and pods that share an image have each their own: so does an overlay of it, which keeps
      // the layer's mount when that has no name any more
      const hideAll = await showAll([top]);
      try {
        return await showImage(filesOf(top), below, options);
      } finally {
        await hideAll();
      }
    },
    comparisonOf: ({ home, layers }) => {
      const top = layers.at(-1);
      return { upper: filesOf(home), lower: [top === undefined ? emptyLayer : filesOf(top), mountPoints] };
    },
    async remove(home) {
      const id = await notedId(home);
      if (id !== undefined) {
        await unmountIfMounted(filesOf(home));
        await pool.remove(id);
      }
      await native.removeTree(home);
    },
    async usage(home) {
      const fd = await mountWritable(await deviceOf(home), { mountReadOnly: true });
      try {
        const [now, before] = [await usageOf(`/proc/self/fd/${fd}/.`), await notedUsage(home)];
        return { bytes: Math.max(0, now.bytes - before.bytes), inodes: Math.max(0, now.inodes - before.inodes) };
      } finally {
        native.closeDescriptor(fd);
      }
    },
    show: showAll,
    close: () => pool.close(),
  };
}

const deviceNote = "device.json";

async function deviceOf(home: string): Promise<Device> {
  return JSON.parse(await readFile(join(home, deviceNote), "utf8")) as Device;
}

/** Undefined: nothing was begun, or the note is not whole: then the device was not made. */
async function notedId(home: string): Promise<number | undefined> {
  try {
    return (await deviceOf(home)).id;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** A layer that is in the store: what is in the making has no record yet, and a container's root never has one. */
function isSealed(home: string): Promise<boolean> {
  return readFile(join(home, "layer.json")).then(
    () => true,
    () => false,
  );
}

async function attach(fd: number, home: string): Promise<void> {
  try {
    await native.attachMount(fd, filesOf(home));
  } finally {
    native.closeDescriptor(fd);
  }
}

interface Base {
  /** of all devices: the file systems on them are of this size */
  deviceBytes: number;
}

function baseNote(root: string): string {
  return join(root, "devmapper", "base.json");
}

async function readBase(root: string): Promise<Base | undefined> {
  try {
    return JSON.parse(await readFile(baseNote(root), "utf8")) as Base;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Device 0, an empty directory. */
async function makeBase(root: string, pool: ThinPool, deviceBytes: number): Promise<Base> {
  await pool.remove(baseId);
  await pool.create(baseId);
  const fd = await pool.hold(baseId, false, async (device) => {
    await makeFileSystem(device);
    return native.mountBlock({ device, type: "ext4", options: written });
  });
  try {
    const path = `/proc/self/fd/${fd}/.`;
    await rmdir(`/proc/self/fd/${fd}/lost+found`);
    await chmod(path, 0o755);
    await native.syncFileSystem(path);
  } finally {
    native.closeDescriptor(fd);
  }
  await pool.deactivate(baseId);
  await writeFile(baseNote(root), JSON.stringify({ deviceBytes }), { mode: 0o600 });
  return { deviceBytes };
}

async function makeFileSystem(device: string): Promise<void> {
  try {
    await run("/sbin/mkfs.ext4", [...mkfsOptions, ...mkfsExtended, device], { env: {} });
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim();
    throw new FailedPreconditionError(
      `storage-driver devmapper: mkfs.ext4 (Debian's package e2fsprogs) failed: ${said || messageOf(error)}`,
      { cause: error },
    );
  }
}

async function usageOf(path: string): Promise<TreeUsage> {
  const { bsize, blocks, bfree, files, ffree } = await statfs(path);
  return { bytes: (blocks - bfree) * bsize, inodes: files - ffree };
}

async function unmountIfMounted(path: string): Promise<void> {
  try {
    await native.unmount(path);
  } catch (error) {
    // EINVAL: nothing is mounted there
    if (!isSystemError(error) || !["EINVAL", "ENOENT"].includes(error.errnoName)) throw error;
  }
}

/** What an agent that was killed had mounted. */
async function unmountAllBelow(root: string): Promise<void> {
  const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n");
  const places = mounts.map((line) => line.split(" ")[1]?.replace(/\\([0-7]{3})/g, unescapeOctal) ?? "");
  for (const place of places.reverse()) {
    if (["layers", "containers"].some((name) => place.startsWith(`${join(root, name)}/`)) && place.endsWith("/fs")) {
      await unmountIfMounted(place);
    }
  }
}

function unescapeOctal(_: string, digits: string): string {
  return String.fromCharCode(Number.parseInt(digits, 8));
}
