/**
 * The directories and cgroup mounts without which no pod can be started, as they are at this moment: a disk that the kernel
 * has made read-only, a file system that was unmounted below the agent. Status asks every few seconds, so that a look costs
 * some hundredths of a millisecond and writes nothing.
 */
import { accessSync, constants, statfsSync, statSync } from "node:fs";
import { access, type FileHandle, open, readFile, stat } from "node:fs/promises";
import type { Hierarchy } from "../sandbox/cgroup/manager.js";
import { describeErrno } from "../sandbox/errno.js";
import { mountOf, readOnlyDirectory } from "./doctor/disk.js";
import type { Finding } from "./doctor.js";

export interface WatchedDirectory {
  /** its setting */
  setting: "root" | "run" | "netns-dir";
  path: string;
  /** what follows where it is another directory, when pods can be started all the same; no period at the end */
  consequenceOfExchange?: string;
  /** the first pod makes it, and others may mount it */
  isMadeLater?: boolean;
  /** what follows where it is broken; no period at the end. Absent: no pod can be started */
  consequence?: string;
}

export interface Patience {
  /** a slow disk holds no answer up for longer, and is no broken one */
  answerMs: number;
  /** a look that takes so long is told of */
  tellMs: number;
  /** between two looks that ask the file system itself, and not the kernel's memory of it */
  askFileSystemMs: number;
}

const usualPatience: Patience = { answerMs: 500, tellMs: 30_000, askFileSystemMs: 60_000 };

/** Both begin with the directories and hierarchies as they are now. */
export class WatchedPlaces {
  readonly #looks: DirectoryLook[];

  constructor(
    directories: readonly WatchedDirectory[],
    private readonly hierarchies: readonly Hierarchy[],
    patience = usualPatience,
  ) {
    this.#looks = directories.map((directory) => new DirectoryLook(directory, patience));
  }

  /** A record could not be written: the next look is a thorough one. */
  suspect(): void {
    for (const look of this.#looks) look.suspect();
  }

  async findings(): Promise<Finding[]> {
    const found = await Promise.all(this.#looks.map((look) => look.findings()));
    return [...found.flat(), ...cgroupFindings(this.hierarchies)];
  }
}

class DirectoryLook {
  readonly #identity: string | undefined;
  #last: Finding[] = [];
  #underWay: { since: number; ended: Promise<Finding[]> } | undefined;
  #isSuspect = false;
  #askedAt = performance.now();

  constructor(
    private readonly directory: WatchedDirectory,
    private readonly patience: Patience,
  ) {
    const found = statSync(directory.path, { throwIfNoEntry: false });
    this.#identity = found && !directory.isMadeLater ? identityOf(found) : undefined;
  }

  suspect(): void {
    this.#isSuspect = true;
  }

  async findings(): Promise<Finding[]> {
    const look = this.#underWay ?? this.#begin();
    let timer: NodeJS.Timeout | undefined;
    const slow = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), this.patience.answerMs);
    });
    const found = await Promise.race([look.ended, slow]);
    clearTimeout(timer);
    if (found !== undefined) return found;
    return performance.now() - look.since < this.patience.tellMs ? this.#last : [silent(this.directory)];
  }

  #begin(): { since: number; ended: Promise<Finding[]> } {
    const ended = this.#look().then((found) => {
      this.#last = found;
      this.#underWay = undefined;
      return found;
    });
    this.#underWay = { since: performance.now(), ended };
    return this.#underWay;
  }

  async #look(): Promise<Finding[]> {
    const { path } = this.directory;
    try {
      const [found] = await Promise.all([stat(path), access(path, constants.W_OK)]);
      if (this.#identity !== undefined && identityOf(found) !== this.#identity) return [exchanged(this.directory)];
      if (this.#mustAsk()) await askFileSystem(path);
      return [];
    } catch (error) {
      if (this.directory.isMadeLater && codeOf(error) === "ENOENT") return [];
      // the way back is found at the next look
      this.#isSuspect = true;
      return [await broken(this.directory, error as NodeJS.ErrnoException)];
    }
  }

  #mustAsk(): boolean {
    const now = performance.now();
    if (!this.#isSuspect && now - this.#askedAt < this.patience.askFileSystemMs) return false;
    this.#isSuspect = false;
    this.#askedAt = now;
    return true;
  }
}

/**
 * A file system that has met an error lets nothing be written any more, which its mount need not show (ext4 from Linux 6.11
 * on, XFS). Where nothing waits to be written, nothing is.
 */
async function askFileSystem(path: string): Promise<void> {
  let directory: FileHandle;
  try {
    directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    // the agent has no descriptor for it
    if (["EMFILE", "ENFILE"].includes(codeOf(error))) return;
    throw error;
  }
  try {
    await directory.sync();
  } catch (error) {
    // some have no sync of directories
    if (!["EINVAL", "ENOTSUP", "EOPNOTSUPP"].includes(codeOf(error))) throw error;
  } finally {
    await directory.close();
  }
}

/** Numbers of inodes are used again; what has no time of birth has 0 there. */
function identityOf({ dev, ino, birthtimeMs }: { dev: number; ino: number; birthtimeMs: number }): string {
  return `${dev} ${ino} ${birthtimeMs}`;
}

function finding(id: string, what: string, remedy: string, consequence = "no pod can be started"): Finding {
  return { id, severity: "error", what, consequence, remedy, breaks: "RuntimeReady" };
}

async function broken(directory: WatchedDirectory, error: NodeJS.ErrnoException): Promise<Finding> {
  const { setting, path, consequence } = directory;
  if (error.code === "EROFS") {
    const found = readOnlyDirectory(path, setting, await mountPointOf(path));
    return consequence === undefined ? found : { ...found, consequence };
  }
  if (error.code === "ENOENT" || error.code === "ENOTDIR") {
    return finding(
      "DirectoryGone",
      `${path} (${setting}) is gone`,
      "Mount again, or put back, what was there. Where that is gone for good, start the agent again: it makes what is missing.",
      consequence,
    );
  }
  return finding(
    "DirectoryBroken",
    `${path} (${setting}) cannot be written: ${describeErrno(-(error.errno ?? 0))}`,
    "See what the kernel says of its file system (dmesg), and what lsattr and its mount say; then mend or replace it.",
    consequence,
  );
}

async function mountPointOf(path: string): Promise<string> {
  try {
    return mountOf(await readFile("/proc/self/mountinfo", "utf8"), path).mountPoint;
  } catch {
    return path;
  }
}

function exchanged({ setting, path, consequence, consequenceOfExchange }: WatchedDirectory): Finding {
  const found = finding(
    "DirectoryExchanged",
    `${path} (${setting}) is not what the agent began with: it was deleted and made again, unmounted, or mounted over`,
    "Mount again what was there. Where that is gone for good, start the agent again.",
    consequence,
  );
  if (consequenceOfExchange === undefined) return found;
  const { id, what, remedy } = found;
  return { id, severity: "warning", what, consequence: consequenceOfExchange, remedy };
}

function silent({ setting, path, consequence }: WatchedDirectory): Finding {
  return finding(
    "DirectorySilent",
    `${path} (${setting}) does not answer: its disk hangs`,
    "See what the kernel says of the disk (dmesg), or of the server that the file system is on.",
    consequence,
  );
}

/** statfs(2)'s numbers */
const cgroupTypes = new Map([
  [0x27e0eb, 1],
  [0x63677270, 2],
]);

/** Never slow, whatever disks do. */
function cgroupFindings(hierarchies: readonly Hierarchy[]): Finding[] {
  const gone: string[] = [];
  const readOnly: string[] = [];
  for (const { mountPoint, version } of hierarchies) {
    try {
      if (cgroupTypes.get(statfsSync(mountPoint).type) !== version) gone.push(mountPoint);
      else accessSync(mountPoint, constants.W_OK);
    } catch (error) {
      (isReadOnly(error) ? readOnly : gone).push(mountPoint);
    }
  }
  return [
    ...(gone.length === 0 ? [] : [cgroupsLost(gone)]),
    ...(readOnly.length === 0
      ? []
      : [
          finding(
            "CgroupsReadOnly",
            `cgroups cannot be made: ${readOnly.join(", ")} ${readOnly.length === 1 ? "is" : "are"} mounted read-only`,
            "Mount them for writing (mount -o remount,rw); the agent finds it by itself.",
          ),
        ]),
  ];
}

function cgroupsLost(mountPoints: readonly string[]): Finding {
  return finding(
    "CgroupsUnmounted",
    `no cgroups are mounted any more at ${mountPoints.join(", ")}`,
    "Mount them there again, as they were; the agent finds it by itself.",
  );
}

function isReadOnly(error: unknown): boolean {
  return codeOf(error) === "EROFS";
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? "";
}
