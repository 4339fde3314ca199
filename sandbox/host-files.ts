/** What a container's request names on the host and has to be read before its spec can be built. */
import { constants } from "node:fs";
import { open, readdir, realpath, stat } from "node:fs/promises";
import { join, posix } from "node:path";
import type { ContainerConfig } from "./container.js";
import { deviceNumbers } from "./device-numbers.js";
import { InvalidArgumentError, messageOf } from "./errors.js";
import type { Apparmor } from "./lsm/apparmor.js";
import { findApparmorProfile } from "./lsm/apparmor-profile.js";
import { apparmorChoice } from "./spec/apparmor.js";
import type { HostFiles } from "./spec/build-spec.js";
import type { HostDevice } from "./spec/devices.js";
import { mountDestination } from "./spec/mounts.js";
import { absolutePath } from "./spec/paths.js";
import { seccompChoice } from "./spec/seccomp.js";

const maxProfileBytes = 1024 * 1024;
/** A node with all its disks has fewer; whoever names / has all of them looked at, and the agent's memory with them. */
const mostFilesBesideDevices = 65_536;
/** Directories of the host's /dev that are other namespaces' or links, and the host's own terminal. */
const skippedInDev = new Set(["console", "core", "fd", "mqueue", "pts", "ptmx", "shm", ".lxc", ".lxd-mounts", ".udev"]);

/** InvalidArgumentError names the field whose file, device or profile is not there. */
export async function readHostFiles(config: ContainerConfig, apparmor: Apparmor): Promise<HostFiles> {
  const context = config.linux?.security_context;
  const apparmorProfile = (await findApparmorProfile(apparmorChoice(context), apparmor)) ?? null;
  const choice = seccompChoice(context);
  const seccompProfile = choice.kind === "localhost" ? await readProfile(choice) : null;
  const budget: Budget = { files: mostFilesBesideDevices };
  const requested = await Promise.all(
    (config.devices ?? []).map((device, index) => requestedDevices(device, index, budget)),
  );
  const ofHost = context?.privileged ? await devicesBelow("/dev", "/dev", "rwm", budget) : [];
  const unasked = ofHost.map((device): HostDevice => ({ ...device, ofPrivilege: true }));
  return { devices: [...unasked, ...requested.flat()], seccompProfile, apparmorProfile };
}

async function readProfile({ path, field }: { path: string; field: string }): Promise<string> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw new InvalidArgumentError(`${field}: ${path} is no regular file`);
      if (stats.size > maxProfileBytes) throw new InvalidArgumentError(`${field}: ${path} is larger than 1 MiB`);
      return await file.readFile("utf8");
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw error;
    throw new InvalidArgumentError(`${field}: the seccomp profile cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** How many files may still be looked at for one request. */
interface Budget {
  files: number;
}

async function requestedDevices(
  device: { container_path?: string | null; host_path?: string | null; permissions?: string | null },
  index: number,
  budget: Budget,
): Promise<HostDevice[]> {
  const field = `config.devices[${index}]`;
  const hostPath = absolutePath(device.host_path, `${field}.host_path`);
  const containerPath = mountDestination(device.container_path || device.host_path, `${field}.container_path`);
  const access = device.permissions ?? "";
  if (!/^[rwm]{1,3}$/.test(access) || new Set(access).size !== access.length) {
    throw new InvalidArgumentError(`${field}.permissions: ${JSON.stringify(access)} is not made of r, w and m`);
  }
  let found: HostDevice[];
  try {
    const real = await realpath(hostPath);
    const isDirectory = (await stat(real)).isDirectory();
    found = isDirectory
      ? await devicesBelow(real, containerPath, access, budget)
      : await deviceAt(real, containerPath, access);
  } catch (error) {
    throw new InvalidArgumentError(`${field}.host_path: ${messageOf(error)}`, { cause: error });
  }
  if (found.length === 0) throw new InvalidArgumentError(`${field}.host_path: ${hostPath} is no device and holds none`);
  return found;
}

/** Device nodes below a directory, at the same places below another one. A node that vanishes meanwhile is passed over. */
async function devicesBelow(
  directory: string,
  containerDirectory: string,
  access: string,
  budget: Budget,
): Promise<HostDevice[]> {
  // those that wait for their turn when one has found too many need none
  const entries = budget.files < 0 ? [] : await readdir(directory, { withFileTypes: true });
  budget.files -= entries.length;
  if (budget.files < 0) throw new TooManyFiles();
  const found = await Promise.all(
    entries.map(async (entry): Promise<HostDevice[]> => {
      if (posix.normalize(directory) === "/dev" && skippedInDev.has(entry.name)) return [];
      const path = join(directory, entry.name);
      const containerPath = join(containerDirectory, entry.name);
      try {
        if (entry.isDirectory()) return await devicesBelow(path, containerPath, access, budget);
        return entry.isCharacterDevice() || entry.isBlockDevice() ? await deviceAt(path, containerPath, access) : [];
      } catch (error) {
        if (error instanceof TooManyFiles) throw error;
        return [];
      }
    }),
  );
  return found.flat();
}

class TooManyFiles extends Error {
  constructor() {
    super(`there are more than ${mostFilesBesideDevices} files below the directories of devices`);
  }
}

async function deviceAt(path: string, containerPath: string, access: string): Promise<HostDevice[]> {
  const stats = await stat(path, { bigint: true });
  if (!stats.isCharacterDevice() && !stats.isBlockDevice()) return [];
  const device = {
    path: containerPath,
    type: stats.isBlockDevice() ? ("b" as const) : ("c" as const),
    ...deviceNumbers(stats.rdev),
    fileMode: Number(stats.mode & 0o777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    access,
  };
  return [device];
}
