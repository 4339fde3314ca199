import { getSystemErrorName } from "node:util";

const sentences: Record<string, string> = {
  E2BIG: "the arguments and the environment are too long together",
  EACCES: "permission denied",
  EBUSY: "the thing is in use",
  EEXIST: "it exists already",
  EINVAL: "the kernel refuses the value",
  EISDIR: "it is a directory",
  ELOOP: "it is, or leads through, a symbolic link that is not followed",
  ENAMETOOLONG: "the name is too long",
  ENOENT: "no such file or directory",
  ENOEXEC: "it is not a program that this kernel can execute",
  ENOMEM: "no memory",
  ENOSPC: "no space is left",
  ENOTDIR: "a part of the path is not a directory",
  EPERM: "operation not permitted",
  EROFS: "the file system is read-only",
  ETXTBSY: "the program is open for writing",
  EXDEV: "the path leaves the root",
};

/** "ENOENT (no such file or directory)" of an errno. */
export function describeErrno(errno: number): string {
  let name: string;
  try {
    name = getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
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
  return errno !== 0 && fullDisk.has(getSystemErrorName(-errno));
}
