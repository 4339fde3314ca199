import { constants } from "node:os";

// util.getSystemErrorName knows libuv's alone, and neither ENOEXEC nor EDQUOT is one; of two names the first counts
const names = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([name, number]) => [number, name]),
);

const sentences: Record<string, string> = {
  E2BIG: "the arguments and the environment are too long together",
  EACCES: "permission denied",
  EBUSY: "the thing is in use",
  EEXIST: "it exists already",
  EINVAL: "the kernel refuses the value",
  EISDIR: "it is a directory",
  ELOOP: "it is, or leads through, a symbolic link that is not followed",
  EIO: "the disk fails, or what it is reached by",
  EMFILE: "the process has as many open files as it may",
  ENAMETOOLONG: "the name is too long",
  ENFILE: "the node has as many open files as it may",
  ENOENT: "no such file or directory",
  EDQUOT: "a quota is used up",
  ENOEXEC: "exec format error: it is no program, or one of another architecture",
  ENOMEM: "no memory",
  ENOSPC: "no space is left",
  ENOTDIR: "a part of the path is not a directory",
  EPERM: "operation not permitted",
  EROFS: "the file system is read-only",
  ETXTBSY: "the program is open for writing",
  EXDEV: "the path leaves the root",
};

export function errnoNameOf(errno: number): string | undefined {
  return names.get(errno);
}

/** "ENOENT (no such file or directory)" of an errno. */
export function describeErrno(errno: number): string {
  const name = names.get(errno);
  if (name === undefined) return `errno ${errno}`;
  const sentence = sentences[name];
  return sentence === undefined ? name : `${name} (${sentence})`;
}

const fullDisk = new Set(["ENOSPC", "EDQUOT"]);

/** A full disk or a used-up quota is what an error, of Node's or of the addon's, comes from. */
export function isDiskFull(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code, errnoName } = at as { code?: unknown; errnoName?: unknown };
    if (fullDisk.has(String(code)) || fullDisk.has(String(errnoName))) return true;
  }
  return false;
}

/** The same of the number that another process tells. */
export function isDiskFullErrno(errno: number): boolean {
  return fullDisk.has(names.get(errno) ?? "");
}
