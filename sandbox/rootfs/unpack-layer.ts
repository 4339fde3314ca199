/** Runs berth-unpack: one confined process that turns a layer's stream into a directory. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { setPriority } from "node:os";
import type { Readable, Writable } from "node:stream";
import { programs } from "../../native/binding.js";
import { CancelledError } from "../errors.js";
import { collect, type Ending, failureOf } from "./confined-process.js";

/** The process that unpacks a layer. */
export interface UnpackProcess {
  /** -20 (first) to 19 (last), of processor and disk: the priority of its I/O follows. Nothing when it has ended. */
  setNice(nice: number): void;
}

export interface UnpackedLayer {
  /** "sha256:<hex>" of the uncompressed layer as it was unpacked */
  diffId: string;
  bytes: number;
  inodes: number;
  /** no entry of the layer describes its root directory */
  rootIsImplicit: boolean;
  /** other directories that no entry describes; each character is one byte */
  implicit: string[];
}

/** An uncompressed layer may be this large. */
export const maxLayerBytes = 256 * 1024 ** 3;

type Unpacker = ChildProcessByStdio<Writable, Readable, Readable>;

/**
 * Unpacks a layer, compressed or not, into an empty directory; or applies it to the tree of the layers below: then nothing
 * of it is implicit, and there are no whiteouts. When this settles, the process has ended.
 * @throws ResourceExhaustedError for a full disk, CancelledError after the signal, InternalError for a layer that is
 *   malformed; what the source throws is passed on
 */
export async function unpackLayer(options: {
  directory: string;
  source: AsyncIterable<Uint8Array>;
  apply?: boolean;
  signal?: AbortSignal;
  onStart?: (process: UnpackProcess) => void;
}): Promise<UnpackedLayer> {
  const apply = options.apply ? ["--apply"] : [];
  const output = await run(
    ["--directory", options.directory, "--limit-bytes", String(maxLayerBytes), ...apply],
    options.source,
    options.signal,
    options.onStart,
  );
  return JSON.parse(output) as UnpackedLayer;
}

/**
 * Gives directories of a layer the mode, owner and attributes that they have in the layers below (topmost first).
 * @param options.paths as UnpackedLayer.implicit has them
 */
export async function inheritDirectories(options: {
  directory: string;
  lower: readonly string[];
  paths: readonly string[];
}): Promise<void> {
  const list = async function* (): AsyncGenerator<Uint8Array> {
    for (const path of options.paths) yield Buffer.from(`${path}\0`, "latin1");
  };
  const lower = options.lower.flatMap((directory) => ["--lower", directory]);
  await run(["--directory", options.directory, "--inherit", ...lower], list(), undefined);
}

async function run(
  args: string[],
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
  onStart?: (process: UnpackProcess) => void,
): Promise<string> {
  if (signal?.aborted) throw new CancelledError("unpacking was cancelled");
  // an empty environment: nothing of the agent's steers the loader or the libraries
  const child = spawn(programs.unpack, args, { stdio: ["pipe", "pipe", "pipe"], env: {} });
  onStart?.({ setNice: (nice) => setNice(child, nice) });
  const stop = (): void => {
    child.kill("SIGKILL");
  };
  signal?.addEventListener("abort", stop, { once: true });
  const output = collect(child.stdout);
  const errors = collect(child.stderr);
  const ended = new Promise<Ending>((resolve) => {
    child.once("error", (error) => resolve({ error }));
    child.once("close", (code, name) => resolve({ code, name }));
  });
  try {
    let sourceError: unknown;
    try {
      await feed(child, source, ended);
    } catch (error) {
      sourceError = error;
      stop();
    }
    const ending = await ended;
    if (signal?.aborted) throw new CancelledError("unpacking was cancelled");
    if (sourceError !== undefined) throw sourceError;
    if (ending.code !== 0) {
      throw failureOf(programs.unpack, "the layer could not be unpacked", ending, errors.text());
    }
    return output.text();
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

function setNice(child: Unpacker, nice: number): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    setPriority(child.pid, nice);
  } catch {
    // a host that does not let us: then it has the priority that it had
  }
}

/** Writes the source into the process, no faster than it reads; stops when the process has ended. */
async function feed(child: Unpacker, source: AsyncIterable<Uint8Array>, ended: Promise<Ending>): Promise<void> {
  // EPIPE: the process has ended and says itself why
  child.stdin.on("error", () => undefined);
  const over = ended.then(() => "over" as const);
  const chunks = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await Promise.race([chunks.next(), over]);
      if (next === "over") return;
      if (next.done) break;
      if (child.stdin.write(next.value)) continue;
      const drained = new Promise<void>((resolve) => child.stdin.once("drain", resolve));
      if ((await Promise.race([drained, over])) === "over") return;
    }
    child.stdin.end();
  } finally {
    await chunks.return?.();
  }
}
