/** Volumes' files get the label of the container that mounts them, where the request asks for that (selinux_relabel). */
import { fstatSync, statSync } from "node:fs";
import { isSystemError, native } from "../native/binding.js";
import type { ContainerConfig } from "./container.js";
import { InvalidArgumentError } from "./errors.js";
import type { PodFilePaths } from "./spec/mounts.js";
import { absolutePath } from "./spec/paths.js";

/** Directories that the system itself lives in: with a container's label nothing else could use them any more. */
const systemDirectories = [
  ...["/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root"],
  ...["/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/sbin", "/usr/share"],
  ...["/var", "/var/lib", "/var/log", "/var/run", "/var/tmp", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/pki"],
];

export interface Relabelling {
  label: string;
  /** the mounts' sources that are relabelled */
  sources: ReadonlySet<string>;
}

/** Undefined: nothing is relabelled, because there are no labels. The pod's own files always are. */
export function relabelling(
  config: ContainerConfig,
  podFiles: PodFilePaths,
  label: string | undefined,
): Relabelling | undefined {
  if (label === undefined) return undefined;
  const asked = (config.mounts ?? []).filter(({ selinux_relabel, image }) => selinux_relabel && !image);
  const sources = asked.map(({ host_path }) => absolutePath(host_path, "config.mounts.host_path"));
  return { label, sources: new Set([...sources, ...Object.values(podFiles)]) };
}

/**
 * Labels an open file or directory and all that is in it. InvalidArgumentError: it is a directory of the system's, by
 * whatever path, or on a read-only file system.
 */
export async function relabel(fd: number, path: string, label: string): Promise<void> {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  const system = systemDirectories.find((directory) => {
    const found = statSync(directory, { bigint: true, throwIfNoEntry: false });
    return found?.dev === dev && found.ino === ino;
  });
  if (system !== undefined) {
    throw new InvalidArgumentError(`selinux_relabel: the files of ${system} are the system's, and are not relabelled`);
  }
  try {
    await native.relabelTree({ fd, path, label });
  } catch (error) {
    if (!isSystemError(error) || error.errnoName !== "EROFS") throw error;
    throw new InvalidArgumentError(`selinux_relabel: ${path} is on a read-only file system`, { cause: error });
  }
}
