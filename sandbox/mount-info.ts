/** /proc/PID/mountinfo. */
import { readFileSync } from "node:fs";

export interface MountInfo {
  id: number;
  parent: number;
  /** "8:1" */
  device: string;
  /** within its file system */
  root: string;
  mountPoint: string;
  isShared: boolean;
  isSlave: boolean;
  isUnbindable: boolean;
  /** peer group that it is in, or else receives from; 0: it is private */
  group: number;
  /** peer group that it receives from; 0: none */
  master: number;
}

export function parseMountInfo(text: string): MountInfo[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const fields = line.split(" ");
      const [id, parent, device = "", root = "", mountPoint = ""] = fields;
      const tags = fields.slice(6, fields.indexOf("-"));
      const numberOf = (name: string) =>
        Number(tags.find((tag) => tag.startsWith(`${name}:`))?.slice(name.length + 1) ?? 0);
      return {
        id: Number(id),
        parent: Number(parent),
        device,
        root: unescapePath(root),
        mountPoint: unescapePath(mountPoint),
        isShared: numberOf("shared") !== 0,
        isSlave: numberOf("master") !== 0,
        isUnbindable: tags.includes("unbindable"),
        group: numberOf("shared") || numberOf("master"),
        master: numberOf("master"),
      };
    });
}

/** The mount that an open descriptor lies on; undefined: it is not among them any more. */
export function mountBehind(fd: number, mounts: readonly MountInfo[]): MountInfo | undefined {
  const id = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1];
  return mounts.find((mount) => mount.id === Number(id));
}

/** The kernel writes blanks, newlines and backslashes in octal. */
function unescapePath(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
