/** Small file systems of any kind, on loop devices. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { StorageDriverName } from "../../sandbox/rootfs/drivers/driver.js";

export type FileSystemKind = "ext4" | "xfs" | "btrfs" | "tmpfs";

export interface TestFileSystem {
  /** where it is mounted */
  path: string;
  /** Unmounts it, and takes all of it away. */
  close(): Promise<void>;
}

/** Why the machine has none of this kind; undefined: it has. */
export function lacksFileSystem(kind: FileSystemKind): string | undefined {
  const known = readFileSync("/proc/filesystems", "utf8").split(/\s+/);
  if (!known.includes(kind)) return `the kernel has no ${kind}`;
  if (kind === "tmpfs") return undefined;
  if (spawnSync("losetup", ["--find"]).status !== 0) return "there is no loop device";
  if (spawnSync(`mkfs.${kind}`, ["-V"]).error !== undefined) return `there is no mkfs.${kind}`;
  return undefined;
}

/** Why the machine cannot have this driver on a file system of this kind; undefined: it can. */
export function lacksStorage(driver: StorageDriverName, kind: FileSystemKind): string | undefined {
  if (driver === "devmapper" && !existsSync("/dev/mapper/control")) return "the kernel has no device mapper";
  return lacksFileSystem(kind);
}

/** Why there are no project quotas on this kind here; undefined: there are. */
export function lacksProjectQuotas(kind: "ext4" | "xfs"): string | undefined {
  const lacking = lacksFileSystem(kind);
  if (lacking !== undefined) return lacking;
  let fileSystem: TestFileSystem;
  try {
    fileSystem = makeFileSystem(kind, 320, { projectQuotas: true });
  } catch {
    return `the kernel mounts no ${kind} with prjquota`;
  }
  const mounted = readFileSync("/proc/self/mounts", "utf8").split("\n");
  const options = mounted.find((line) => line.split(" ")[1] === fileSystem.path)?.split(" ")[3] ?? "";
  execFileSync("umount", [fileSystem.path]);
  rmSync(dirname(fileSystem.path), { recursive: true });
  return options.includes("prjquota") ? undefined : `the kernel has no project quotas on ${kind}`;
}

/** @param megabytes xfs wants 300 at least, btrfs 120 */
export function makeFileSystem(
  kind: FileSystemKind,
  megabytes: number,
  { projectQuotas = false }: { projectQuotas?: boolean } = {},
): TestFileSystem {
  const base = mkdtempSync(join(tmpdir(), "berth-fs-"));
  const path = join(base, "mounted");
  mkdirSync(path);
  try {
    if (kind === "tmpfs") {
      execFileSync("mount", ["-t", kind, "-o", `size=${megabytes}m`, kind, path]);
    } else {
      const file = join(base, "file");
      writeFileSync(file, "");
      truncateSync(file, megabytes * 1024 ** 2);
      const features = projectQuotas && kind === "ext4" ? ["-O", "project,quota"] : [];
      execFileSync(`mkfs.${kind}`, ["-q", ...features, file], { stdio: "pipe" });
      // the loop device goes with the mount
      const options = projectQuotas ? "loop,prjquota" : "loop";
      execFileSync("mount", ["-t", kind, "-o", options, file, path], { stdio: "pipe" });
    }
  } catch (error) {
    rmSync(base, { recursive: true });
    throw error;
  }
  return {
    path,
    async close() {
      for (let tries = 0; ; tries++) {
        const { status, stderr } = spawnSync("umount", [path], { encoding: "utf8" });
        if (status === 0) break;
        // what was deleted in the background may still be open
        if (tries === 200) throw new Error(stderr);
        await sleep(50);
      }
      rmSync(base, { recursive: true });
    },
  };
}
