/** mkdir -p, for paths that somebody else has chosen. */
import { lstatSync, mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Makes the directory, and what is missing above it. Node's own (`recursive`) tries for ever, and keeps the event loop with
 * it, where the kernel makes no directories and says ENOENT: below /proc, and below mount points of an automounter.
 * @returns the outermost that was made; undefined: all were there
 */
export function makeDirectories(path: string, mode: number): string | undefined {
  const missing = missingDirectories(path);
  // also when nothing is missing: whoever finds a file there is told
  for (const directory of missing.length > 0 ? missing : [path]) makeDirectory(directory, mode);
  return missing[0];
}

/** Those of the path that are not there, the outer before the inner. */
export function missingDirectories(path: string): string[] {
  const missing: string[] = [];
  for (let directory = path; isMissing(directory); directory = dirname(directory)) missing.unshift(directory);
  return missing;
}

function makeDirectory(path: string, mode: number): void {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    // somebody else has made it meanwhile, or it is a link to one
    if ((error as NodeJS.ErrnoException).code !== "EEXIST" || !leadsToDirectory(path)) throw error;
  }
}

function leadsToDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** False also where the path cannot be: whoever makes it is told. */
function isMissing(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}
