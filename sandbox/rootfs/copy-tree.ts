/** Makes a tree again, off the main thread. */
import type { TreeUsage } from "./paced-walks.js";
import { runArchiveProgram } from "./read-archive.js";

/** Nobody cancels it: what it makes is removed afterwards. */
const never = new AbortController().signal;

/**
 * @param from its top directory, of a tree that does not change
 * @param to an empty directory
 * @param shareBelow a directory that has both in it: files are not copied, but get further names, so that nobody may change
 *   them. Absent: they are copies, which share their blocks where the file system can do that
 * @returns what the new tree occupies, further names not counted
 * @throws ResourceExhaustedError for a full disk, InternalError
 */
export async function copyTree(options: { from: string; to: string; shareBelow?: string }): Promise<TreeUsage> {
  const { from, to, shareBelow } = options;
  const args = ["copy", "--directory", to, "--from", from, ...(shareBelow ? ["--share-below", shareBelow] : [])];
  const told = await runArchiveProgram(args, ["ignore", "pipe", "pipe"], `${from} could not be copied`, never);
  return JSON.parse(told) as TreeUsage;
}
