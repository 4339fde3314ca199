/** Errors that are the machine's state and no fault of Berth's or of a caller's: what a caller is told to do about them. */
import { describeErrno, errnoNameOf } from "./errno.js";

export interface MachineTrouble {
  kind: "RESOURCE_EXHAUSTED" | "UNAVAILABLE";
  /** the failed call, its path and its errno; absent: whoever has caught the error has made a sentence of it */
  sentence?: string;
  /** how it gets well; no capital letter, no period */
  remedy: string;
  /** it can be met at any step, so that what was made of it elsewhere, a wrong argument perhaps, is wrong */
  outranks: boolean;
}

const exhausted = (remedy: string, outranks = false) => ({ kind: "RESOURCE_EXHAUSTED" as const, remedy, outranks });
const unavailable = (remedy: string) => ({ kind: "UNAVAILABLE" as const, remedy, outranks: false });

const diskFails = unavailable("its disk fails, or what it is reached by: dmesg says more");

const troubles: Readonly<Record<string, Omit<MachineTrouble, "sentence">>> = {
  ENOSPC: exhausted("make room: berth image du, berth image prune"),
  EDQUOT: exhausted("raise the quota, or make room: berth image du, berth image prune"),
  EMFILE: exhausted("the agent has as many open files as it may: raise its limit (LimitNOFILE, ulimit -n)", true),
  ENFILE: exhausted("the programs of this node together have as many open files as they may: raise fs.file-max", true),
  ENOMEM: exhausted("the kernel has no memory for it: free some, or raise the memory limit of the agent's own cgroup"),
  EROFS: unavailable("mount it for writing; a disk with an error is made read-only by the kernel: dmesg says more"),
  EIO: diskFails,
  EUCLEAN: unavailable("its file system is damaged: check it (fsck); dmesg says more"),
  ESTALE: diskFails,
};

const ofDisks = new Set(["ENOSPC", "EDQUOT", "EIO", "EUCLEAN", "ESTALE"]);

/** They make processes and namespaces, and mean others by the same errnos. */
const cloning = new Set(["clone", "clone3", "fork", "vfork", "unshare", "pthread_create"]);
const troublesOfCloning: typeof troubles = {
  EAGAIN: exhausted(
    "no more processes can be made: raise kernel.pid_max, kernel.threads-max, or the limit of the agent's cgroup (TasksMax)",
    true,
  ),
  ENOSPC: exhausted(
    "no more namespaces can be made: raise user.max_net_namespaces and the other user.max_*_namespaces",
  ),
};

/** Undefined: the error comes from nothing of the kind. */
export function machineTrouble(error: unknown): MachineTrouble | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code, errnoName, errno, syscall, path } = at as FailedCall;
    const name = typeof errnoName === "string" ? errnoName : String(code);
    // in there it is no disk that fails, or is full
    if (/^\/(?:proc|sys)\//.test(String(path ?? "")) && ofDisks.has(name)) continue;
    const trouble = (cloning.has(String(syscall)) ? troublesOfCloning : undefined)?.[name] ?? troubles[name];
    if (trouble === undefined) continue;
    // Node's own message is its errno, in its own words, before what it is about
    const isBare = at === error && typeof path === "string" && typeof errno === "number";
    return isBare ? { ...trouble, sentence: `${syscall} ${path}: ${describeErrno(-errno)}` } : trouble;
  }
  return undefined;
}

/** Node's, or the addon's (which has errnoName). */
interface FailedCall {
  code?: unknown;
  errnoName?: unknown;
  errno?: unknown;
  syscall?: unknown;
  path?: unknown;
}

const ofWhoeverMeets = new Set(["EMFILE", "ENFILE", "ENOMEM"]);

/** Of the number that another process tells: it had no descriptor or no memory left. */
export function isUsedUpErrno(errno: number): boolean {
  return ofWhoeverMeets.has(errnoNameOf(errno) ?? "");
}
