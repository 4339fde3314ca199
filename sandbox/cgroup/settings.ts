/** One file that is written, and whose wish it was: so that a refusal can name the field. */
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { isSystemError, type SystemError } from "../../native/binding.js";
import {
  BerthError,
  FailedPreconditionError,
  InternalError,
  InvalidArgumentError,
  ResourceExhaustedError,
} from "../errors.js";

export interface Setting {
  file: string;
  value: string;
  /** as the CRI (or, where it has none, the OCI) names it; empty: Berth's own doing */
  field: string;
  /** what the field said */
  given: string;
}

/** Of settings whose `given` is "2MB=0": the size of a page and the limit. */
export const hugepageField = "hugepage_limits";

export function writesOf(settings: readonly Setting[]): [path: string, value: string][] {
  return settings.map(({ file, value }) => [file, value]);
}

/** The class' name is the caller's; what the kernel is told is what an administrator has to correct. */
export function blockIoSetting(file: string, value: string): Setting {
  return { file, value, field: "the block-IO class'", given: `${basename(file)} ${value}` };
}

const kibibytes: Readonly<Record<string, number>> = { K: 1, M: 2 ** 10, G: 2 ** 20 };

/** No huge pages of a size that the host has not: there is no file for such a limit, and it holds without one. */
export function holdsByItself({ field, given }: Setting): boolean {
  if (field !== hugepageField) return false;
  const [, count = "", unit = ""] = /^(\d+)([KMG])B=0$/.exec(given) ?? [];
  const size = Number(count) * (kibibytes[unit] ?? 0);
  return size > 0 && !existsSync(`/sys/kernel/mm/hugepages/hugepages-${size}kB`);
}

/** Was it one of Berth's own writes that failed, and nothing that was asked for? */
export function isOfPreparation(error: unknown, settings: readonly Setting[]): boolean {
  if (!isSystemError(error)) return false;
  const written = settings.filter(({ file }) => file === error.subject);
  return written.length > 0 && written.every(({ field }) => field === "");
}

/** What a failed create or update is to its caller. */
export function refusal(error: unknown, settings: readonly Setting[], path: string): Error {
  if (error instanceof BerthError || !isSystemError(error))
    return error instanceof Error ? error : new Error(`${error}`);
  // A file may be written more than once: the parent's value before the own one, or a list of devices one by one. The
  // error tells the value, too.
  const candidates = settings.filter(({ file }) => file === error.subject);
  const setting = candidates.find(({ value }) => error.message.includes(`"${value}"`)) ?? candidates.at(-1);
  if (setting === undefined) return refusedDirectory(error, path);
  if (setting.field === "") return refusedPreparation(error, setting);
  const { field, given, file } = setting;
  if (error.errnoName === "ENOENT") {
    return new FailedPreconditionError(`${field} ${given} cannot be applied: this kernel has no ${basename(file)}`, {
      cause: error,
    });
  }
  if (error.errnoName === "EBUSY") {
    return new FailedPreconditionError(`${field} ${given} is less than what is in use`, { cause: error });
  }
  return new InvalidArgumentError(
    `${field} ${given} was refused by the kernel: ${error.errnoName}${limitAbove(file)}`,
    { cause: error },
  );
}

/** What the parents of a v1 cgroup allow, as the rest of a sentence: the kernel does not tell that it was that. */
function limitAbove(file: string): string {
  const name = basename(file);
  const parent = dirname(dirname(file));
  if (name.startsWith("cpuset.")) {
    const allowed = content(join(parent, name));
    return allowed === "" ? "" : `; the cgroup above has ${allowed}`;
  }
  if (!name.startsWith("cpu.cfs_")) return "";
  // the nearest that has a limit; none has such a file above the root
  for (let above = parent; above !== "/"; above = dirname(above)) {
    const quota = Number(content(join(above, "cpu.cfs_quota_us")));
    if (quota > 0) return `; ${above} has a quota of ${quota} in ${content(join(above, "cpu.cfs_period_us"))}`;
  }
  return "";
}

/** Empty where it cannot be read: a parent that was made for this cgroup alone has gone with it. */
function content(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return "";
  }
}

function refusedDirectory(error: SystemError, path: string): Error {
  const message = `cgroup ${path} cannot be made: ${error.syscall} ${error.subject}: ${error.errnoName}`;
  switch (error.errnoName) {
    case "ENAMETOOLONG":
    case "ENOTDIR":
      return new InvalidArgumentError(message, { cause: error });
    case "ENOENT":
      return new FailedPreconditionError(`${message}: is the cgroup file system still mounted there?`, {
        cause: error,
      });
    case "EAGAIN":
    case "ENOSPC":
    case "ENOMEM":
      return new ResourceExhaustedError(message, { cause: error });
    case "EROFS":
    case "EACCES":
    case "EPERM":
      return new FailedPreconditionError(message, { cause: error });
    default:
      return new InternalError(message, { cause: error });
  }
}

function refusedPreparation(error: SystemError, setting: Setting): Error {
  const parent = setting.file.slice(0, setting.file.lastIndexOf("/"));
  const hands = basename(setting.file) === "cgroup.subtree_control";
  if (hands && error.errnoName === "EOPNOTSUPP") {
    return new FailedPreconditionError(
      `${parent} is threaded or has threaded cgroups below, so that it cannot give "${setting.value}" to cgroups below ` +
        "it (cgroup v2); name another cgroup_parent",
      { cause: error },
    );
  }
  if (hands && error.errnoName === "EBUSY") {
    return new FailedPreconditionError(
      `${parent} has processes of its own, so that it cannot give controllers to cgroups below it ` +
        "(cgroup v2 allows processes in leaves only); name another cgroup_parent or move its processes",
      { cause: error },
    );
  }
  return new FailedPreconditionError(`"${setting.value}" cannot be written to ${setting.file}: ${error.errnoName}`, {
    cause: error,
  });
}
