import { InvalidArgumentError } from "../errors.js";

/** Checks a cgroup path: absolute (relative to each hierarchy's root), no empty, "." or ".." parts. The root is none. */
export function checkCgroupPath(path: string): void {
  const problem = problemOf(path);
  if (problem !== "") throw new InvalidArgumentError(`cgroup path "${path}" ${problem}`);
}

function problemOf(path: string): string {
  if (!path.startsWith("/")) return "must be absolute";
  if (path.includes("\0") || path.includes("\n")) return "has a character that no cgroup can have";
  for (const part of path.slice(1).split("/")) {
    if (part === "") return "has an empty part";
    if (part === "." || part === "..") return `must not contain "${part}"`;
    if (Buffer.byteLength(part) > 255) return "has a part of more than 255 bytes";
  }
  return "";
}

/** The path's parents below the root, the outermost first: "/a/b/c" has "/a" and "/a/b". */
export function parentsOf(path: string): string[] {
  const parents: string[] = [];
  for (let slash = path.indexOf("/", 1); slash !== -1; slash = path.indexOf("/", slash + 1)) {
    parents.push(path.slice(0, slash));
  }
  return parents;
}
