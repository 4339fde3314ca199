/** Runs berth-archive: one confined process that reads a file which somebody brought. */
import { spawn } from "node:child_process";
import { mkdtemp, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { programs } from "../../native/binding.js";
import { CancelledError } from "../errors.js";
import { collect, type Ending, failureOf } from "./confined-process.js";
import { maxLayerBytes } from "./unpack-layer.js";

export interface ArchiveInput {
  /** an open file, read from where it stands */
  fd: number;
  /** the process's root is an empty directory in here, which is removed afterwards */
  scratch: string;
  signal: AbortSignal;
}

/**
 * Writes a file, gzip, zstd or neither, uncompressed to another.
 * @throws ResourceExhaustedError for a full disk, CancelledError, InternalError when it is damaged or too large
 */
export async function decompressFile(input: ArchiveInput, target: number): Promise<void> {
  await run("decompress", input, target);
}

/** "sha256:<hex>" of a file, uncompressed. @throws as decompressFile does */
export async function uncompressedDigest(input: ArchiveInput): Promise<string> {
  return (JSON.parse(await run("digest", input, "pipe")) as { diffId: string }).diffId;
}

async function run(command: string, input: ArchiveInput, output: number | "pipe"): Promise<string> {
  if (input.signal.aborted) throw new CancelledError("reading the archive was cancelled");
  const directory = await mkdtemp(join(input.scratch, ".empty-"));
  try {
    const args = [command, "--directory", directory, "--limit-bytes", String(maxLayerBytes)];
    // an empty environment: nothing of the agent's steers the loader or the libraries
    const child = spawn(programs.archive, args, { stdio: [input.fd, output, "pipe"], env: {} });
    const stop = (): void => void child.kill("SIGKILL");
    input.signal.addEventListener("abort", stop, { once: true });
    const told = child.stdout === null ? { text: () => "" } : collect(child.stdout);
    const errors = child.stderr === null ? { text: () => "" } : collect(child.stderr);
    const ending = await new Promise<Ending>((resolve) => {
      child.once("error", (error) => resolve({ error }));
      child.once("close", (code, name) => resolve({ code, name }));
    });
    input.signal.removeEventListener("abort", stop);
    if (input.signal.aborted) throw new CancelledError("reading the archive was cancelled");
    if (ending.code !== 0) throw failureOf(programs.archive, "the archive could not be read", ending, errors.text());
    return told.text();
  } finally {
    await rmdir(directory);
  }
}
