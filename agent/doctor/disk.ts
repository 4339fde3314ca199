import { statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseMountInfo } from "../../sandbox/mount-info.js";
import type { Finding } from "../doctor.js";
import type { Machine, ReadText } from "./machine.js";

const leastFreeBytes = 2 * 1024 ** 3;
const leastFreeShare = 0.1;
const leastInodeShare = 0.05;

/** statfs(2)'s numbers of file systems that overlay takes as no writable layer */
const unfitForOverlay = new Map([
  [0x6969, "NFS"],
  [0x794c7630, "overlay"],
  [0x65735546, "FUSE"],
  [0xff534d42, "CIFS"],
  [0xfe534d42, "SMB"],
  [0x01021997, "9p"],
]);

export async function diskFindings({ root, config }: Machine, read: ReadText): Promise<Finding[]> {
  const places = [
    { setting: "root", path: config.root, what: "images and containers' files" },
    { setting: "run", path: config.run, what: "pods' run directories" },
  ];
  const mounts = (await read("proc/self/mountinfo")) ?? "";
  const findings = await Promise.all(
    places.map(async ({ setting, path, what }) => {
      const directory = await nearestThere(join(root, path));
      return [
        ...(await roomFindings(directory, setting, path, what)),
        ...optionFindings(mounts, path, setting),
        ...(setting === "root" && config.storageDriver === "overlay" ? await fileSystemFindings(directory, path) : []),
      ];
    }),
  );
  return findings.flat();
}

async function roomFindings(directory: string, setting: string, path: string, what: string): Promise<Finding[]> {
  const { bsize, blocks, bavail, files, ffree } = await statfs(directory);
  const findings: Finding[] = [];
  const free = bsize * bavail;
  if (blocks > 0 && free < leastFreeBytes && bavail < blocks * leastFreeShare) {
    findings.push({
      id: "DiskNearlyFull",
      severity: "warning",
      what: `${(free / 1e6).toFixed(0)} MB are free in ${path} (${setting}), of ${((bsize * blocks) / 1e9).toFixed(1)} GB`,
      consequence: `${what} are there: pulls and new pods fail when it is full; those that run are stopped from a reserve`,
      remedy: "See berth image du, run berth image prune, or make it larger.",
    });
  }
  if (files > 0 && ffree < files * leastInodeShare) {
    findings.push({
      id: "InodesNearlyUsedUp",
      severity: "warning",
      what: `${ffree} of ${files} inodes are free in ${path} (${setting})`,
      consequence: '"no space left on device" comes although there are bytes',
      remedy: "See berth image du, run berth image prune, or use a file system with more inodes (mkfs.ext4 -i).",
    });
  }
  return findings;
}

/** Of the mount that the directory lies on. */
function optionFindings(mounts: string, path: string, setting: string): Finding[] {
  const { mountPoint, options } = mountOf(mounts, path);
  const findings: Finding[] = [];
  // ext4 says emergency_ro of itself where it has met an error, and its mount stays as it is
  if (options.includes("ro") || options.includes("emergency_ro")) {
    findings.push(readOnlyDirectory(path, setting, mountPoint));
  }
  for (const option of setting === "root" ? ["noexec", "nosuid"] : []) {
    if (!options.includes(option)) continue;
    findings.push({
      id: "MountOption",
      severity: option === "noexec" ? "error" : "warning",
      what: `${path} (${setting}) is on a mount with ${option} (${mountPoint})`,
      consequence:
        option === "noexec" ? "no program of an image can be executed" : "set-uid programs of images have no effect",
      remedy: `Mount it without ${option}, or choose another ${setting}.`,
      ...(option === "noexec" && { breaks: "RuntimeReady" as const }),
    });
  }
  return findings;
}

/** The mount, of a mountinfo, that the path lies on, with its options and its file system's. */
export function mountOf(mountinfo: string, path: string): { mountPoint: string; options: string[] } {
  const line = mountinfo
    .split("\n")
    .map((text) => ({ text, mountPoint: parseMountInfo(text)[0]?.mountPoint ?? "" }))
    .filter(({ mountPoint }) => mountPoint === "/" || path === mountPoint || path.startsWith(`${mountPoint}/`))
    .reduce((nearest, one) => (one.mountPoint.length >= nearest.mountPoint.length ? one : nearest), {
      text: "",
      mountPoint: "",
    });
  const fields = line.text.split(" ");
  const options = [...(fields[5] ?? "").split(","), ...(fields.at(-1) ?? "").split(",")];
  return { mountPoint: line.mountPoint, options };
}

/** The same words for whoever finds it. */
export function readOnlyDirectory(path: string, setting: string, mountPoint: string): Finding {
  return {
    id: "ReadOnlyDirectory",
    severity: "error",
    what: `${path} (${setting}) is on a read-only mount (${mountPoint})`,
    consequence: "no pod can be started",
    remedy: `Mount it for writing (the kernel makes a damaged file system read-only: see dmesg), or choose another ${setting}.`,
    breaks: "RuntimeReady",
  };
}

async function fileSystemFindings(directory: string, path: string): Promise<Finding[]> {
  const { type } = await statfs(directory);
  const name = unfitForOverlay.get(type >>> 0);
  if (name === undefined) return [];
  return [
    {
      id: "FileSystemUnfit",
      severity: "error",
      what: `${path} (root) is on ${name}, which overlay cannot write to`,
      consequence: "no container can be created",
      remedy: "Choose a directory on ext4, xfs, btrfs or tmpfs, or another storage-driver (copy goes everywhere).",
      breaks: "RuntimeReady",
    },
  ];
}

/** The directory itself, or the nearest parent that is there: what would be made is on the same file system. */
async function nearestThere(path: string): Promise<string> {
  try {
    await statfs(path);
    return path;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || path === dirname(path)) throw error;
    return nearestThere(dirname(path));
  }
}
