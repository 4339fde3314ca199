/**
 * Directories outside of Berth's own that a creation makes for its caller: for logs, and for volumes that are not there.
 * A creation that does not come to its end takes them back where they are still empty.
 */
import { lstatSync, rmdirSync } from "node:fs";
import { makeDirectories, missingDirectories } from "./directories.js";
import { InvalidArgumentError, messageOf } from "./errors.js";
import { absolutePath } from "./spec/paths.js";

export class MadeDirectories {
  #made: readonly string[] = [];

  /** @param note is told of all of them, the outer before the inner, before a further one is there */
  constructor(private readonly note: (all: readonly string[]) => void) {}

  /** Makes the directory, and what is missing above it. */
  make(path: string): void {
    if (isDirectory(path)) return;
    const missing = missingDirectories(path);
    if (missing.length > 0) {
      this.#made = [...this.#made, ...missing];
      this.note(this.#made);
    }
    makeDirectories(path, 0o755);
  }

  takeBack(): void {
    removeEmptyDirectories(this.#made);
  }
}

/** Removes those that are empty, the inner before the outer; somebody may have put something into the others. */
export function removeEmptyDirectories(paths: readonly string[]): void {
  for (const path of [...paths].reverse()) {
    try {
      rmdirSync(path);
    } catch {
      // it stays
    }
  }
}

/** The directory for logs. InvalidArgumentError names the field. */
export function makeLogDirectory(made: MadeDirectories, path: string, field: string): void {
  absolutePath(path, field);
  try {
    made.make(path);
  } catch (error) {
    throw new InvalidArgumentError(`${field}: the directory ${path} cannot be made: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function isDirectory(path: string): boolean {
  try {
    return lstatSync(path).isDirectory();
  } catch {
    return false;
  }
}
