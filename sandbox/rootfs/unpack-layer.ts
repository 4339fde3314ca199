/** Runs berth-unpack: one confined process that turns a layer's stream into a directory. */
import { constants } from "node:os";
import { native, programs, type RunningProgram, writable } from "../../native/binding.js";
import { CancelledError } from "../errors.js";
import { currentRequestId } from "../request-id.js";
import { type Ending, failureOf, maxOutputBytes } from "./confined-process.js";

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
  /** it hides all of the layers below */
  rootIsOpaque: boolean;
  /** other directories that no entry describes: paths, each with a NUL at its end; with a slash before those of whiteouts alone.
   *  With two slashes: those that have whiteouts. With three: hard links to what the layers below have; with four:
   *  what they lead to */
  implicit: Buffer;
}

/** An uncompressed layer may be this large. */
export const maxLayerBytes = 256 * 1024 ** 3;

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
  /** There are layers below, which are not here: it may have hard links to their files. */
  below?: boolean;
  signal?: AbortSignal;
  onStart?: (process: UnpackProcess) => void;
}): Promise<UnpackedLayer> {
  const upon = options.apply ? ["--apply"] : options.below ? ["--below"] : [];
  const requestId = currentRequestId();
  const request = requestId === undefined ? [] : ["--request-id", requestId];
  const output = await run(
    ["--directory", options.directory, "--limit-bytes", String(maxLayerBytes), ...upon, ...request],
    options.source,
    options.signal,
    options.onStart,
  );
  const end = output.indexOf("\n") + 1;
  const told = JSON.parse(output.toString("utf8", 0, end)) as Omit<UnpackedLayer, "implicit">;
  return { ...told, implicit: output.subarray(end) };
}

async function run(
  args: string[],
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
  onStart?: (process: UnpackProcess) => void,
): Promise<Buffer> {
  if (signal?.aborted) throw new CancelledError("unpacking was cancelled");
  const child = native.runProgram({ executable: programs.unpack, args, outputLimitBytes: maxOutputBytes });
  const ended = endingOf(child);
  onStart?.({ setNice: child.setNice });
  signal?.addEventListener("abort", child.kill, { once: true });
  try {
    let sourceError: unknown;
    try {
      await feed(child.input, source, ended);
    } catch (error) {
      sourceError = error;
      child.kill();
    }
    const { output, errors, ...ending } = await ended;
    if (signal?.aborted) throw new CancelledError("unpacking was cancelled");
    if (sourceError !== undefined) throw sourceError;
    if (ending.code !== 0) {
      throw failureOf(programs.unpack, "the layer could not be unpacked", ending, errors.toString("utf8"));
    }
    return output;
  } finally {
    signal?.removeEventListener("abort", child.kill);
  }
}

type Told = Ending & { output: Buffer; errors: Buffer };

const signalNames = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** Never rejects. */
async function endingOf(child: RunningProgram): Promise<Told> {
  try {
    const { code, signal, output, errors } = await child.ended;
    const name = signal === null ? null : ((signalNames.get(signal) ?? "SIGKILL") as NodeJS.Signals);
    return { code, name, output, errors };
  } catch (error) {
    return { error: error as Error, output: Buffer.alloc(0), errors: Buffer.alloc(0) };
  }
}

/**
 * Writes the source into a process's input, no faster than it reads, and closes that; stops when the process has ended.
 * @param input descriptor
 */
async function feed(input: number, source: AsyncIterable<Uint8Array>, ended: Promise<unknown>): Promise<void> {
  let onRoom = (): void => undefined;
  const stream = new native.ByteStream(input, () => {
    stream.listen(0);
    onRoom();
  });
  // false: nobody reads any more; the process says itself why
  const write = async (bytes: Uint8Array): Promise<boolean> => {
    for (let done = 0; done < bytes.length; ) {
      const taken = stream.write(bytes.subarray(done));
      if (taken < 0) return false;
      done += taken;
      if (taken > 0) continue;
      await new Promise<void>((resolve) => {
        onRoom = resolve;
        stream.listen(writable);
      });
    }
    return true;
  };
  let isOver = false;
  let onOver = (): void => undefined;
  void ended.then(() => {
    isOver = true;
    onOver();
  });
  const chunks = source[Symbol.asyncIterator]();
  try {
    while (!isOver) {
      // no race between promises: what waits for the end of the process would become more with each chunk
      const next = await new Promise<IteratorResult<Uint8Array> | undefined>((resolve, reject) => {
        onOver = () => resolve(undefined);
        chunks.next().then(resolve, reject);
      });
      if (next === undefined || next.done || !(await write(next.value))) return;
    }
  } finally {
    stream.close();
    await chunks.return?.();
  }
}
