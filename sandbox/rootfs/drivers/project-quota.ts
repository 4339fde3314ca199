/** A limit for a directory and all that will be in it, where ext4 or xfs is mounted with project quotas. */
import { randomInt } from "node:crypto";
import { isSystemError, native } from "../../../native/binding.js";
import { FailedPreconditionError } from "../../errors.js";
import type { TreeUsage } from "../paced-walks.js";

/** Far from the numbers that people give, and from the kubelet's. */
const firstProject = 0x6200_0000;
const projects = 0x0100_0000;
const attempts = 20;

/** The file system knows no projects, or is mounted without their quotas. */
const unsupported = new Set(["EOPNOTSUPP", "ENOTTY", "ENOSYS", "ESRCH", "EINVAL"]);

/**
 * Puts an empty directory into a project of its own.
 * @throws FailedPreconditionError when the file system has no project quotas
 */
export async function beginProject(directory: string): Promise<number> {
  try {
    for (let attempt = 1; ; attempt++) {
      const project = firstProject + randomInt(projects);
      const { inodes, limitBytes } = await native.projectUsage(directory, project);
      // another agent's on the same file system
      if ((inodes > 0 || limitBytes > 0) && attempt < attempts) continue;
      await native.setProject(directory, project);
      return project;
    }
  } catch (error) {
    if (!isSystemError(error) || !unsupported.has(error.errnoName)) throw error;
    throw new FailedPreconditionError(
      `a limit of the writable layer: the file system of ${directory} has no project quotas; ` +
        "it has to be ext4 (made with -O project,quota) or xfs, mounted with prjquota",
      { cause: error },
    );
  }
}

/** What the directory's project takes; undefined: it has none. */
export async function projectUsage(directory: string): Promise<TreeUsage | undefined> {
  const project = await projectOf(directory);
  if (project === undefined) return undefined;
  const { bytes, inodes } = await native.projectUsage(directory, project);
  return { bytes, inodes };
}

/** To be called before the directory is removed: nobody would know the project any more. */
export async function endProject(directory: string): Promise<void> {
  const project = await projectOf(directory);
  if (project !== undefined) await native.limitProject({ path: directory, project, limitBytes: 0 });
}

async function projectOf(directory: string): Promise<number | undefined> {
  try {
    const project = await native.getProject(directory);
    return project >= firstProject && project < firstProject + projects ? project : undefined;
  } catch (error) {
    // it is not there, or the file system knows no projects
    if (isSystemError(error)) return undefined;
    throw error;
  }
}
