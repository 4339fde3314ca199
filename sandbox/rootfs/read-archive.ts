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
  const directory = await mkdtemp(join(input.scratch, ".empty-"));
  try {
    const args = [command, "--directory", directory, "--limit-bytes", String(maxLayerBytes)];
    return await runArchiveProgram(args, [input.fd, output, "pipe"], "the archive could not be read", input.signal);
  } finally {
    await rmdir(directory);
  }
}

/**
 * Runs berth-archive and answers its standard output; when this settles, it has ended.
 * @param what begins the sentence of a failure: "the archive could not be read"
 */
export async function runArchiveProgram(
  args: string[],
  stdio: ("ignore" | "pipe" | number)[],
  what: string,
  signal: AbortSignal,
): Promise<string> {
  const cancelled = (): CancelledError => new CancelledError(`${what}: it was cancelled`);
  if (signal.aborted) throw cancelled();
  // an empty environment: nothing of the agent's steers the loader or the libraries
  const child = spawn(programs.archive, args, { stdio, env: {} });
  const stop = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", stop, { once: true });
  const [told, errors] = [child.stdout, child.stderr].map((stream) => (stream === null ? undefined : collect(stream)));
  const ending = await new Promise<Ending>((resolve) => {
    child.once("error", (error) => resolve({ error }));
    child.once("close", (code, name) => resolve({ code, name }));
  });
  signal.removeEventListener("abort", stop);
  if (signal.aborted) throw cancelled();
  if (ending.code !== 0) {
    throw failureOf(programs.archive, what, ending, errors?.text() ?? "");
  }
  return told?.text() ?? "";
}
