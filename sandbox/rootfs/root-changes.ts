/** What a container has changed of its image, off the main thread and without limit of length. */
import { spawn } from "node:child_process";
import { programs } from "../../native/binding.js";
import { CancelledError } from "../errors.js";
import { collect, type Ending, failureOf } from "./confined-process.js";

export type ChangeKind = "added" | "changed" | "deleted";

export interface RootChange {
  kind: ChangeKind;
  /** without a slash at its beginning; names are bytes */
  path: Buffer;
}

/** Which trees are to be compared. */
export interface RootComparison {
  /** what the container has written, or all of its root */
  upper: string;
  /** what is below, the topmost first; of complete trees one, and others of what may be there besides */
  lower: readonly string[];
  /** the trees are complete ones */
  whole: boolean;
}

const kinds: Record<string, ChangeKind> = { A: "added", C: "changed", D: "deleted" };

/**
 * In the order of their paths, each after the directories that it is in, which are told as changed, too; in pieces. The
 * container may change meanwhile.
 * @throws CancelledError, InternalError, ResourceExhaustedError
 */
export async function* rootChanges(comparison: RootComparison, signal: AbortSignal): AsyncGenerator<RootChange[]> {
  const { upper, lower, whole } = comparison;
  const below = lower.flatMap((directory) => ["--lower", directory]);
  const args = ["changes", "--directory", upper, ...below, ...(whole ? ["--whole"] : [])];
  if (signal.aborted) throw new CancelledError("the comparison was cancelled");
  const child = spawn(programs.archive, args, { stdio: ["ignore", "pipe", "pipe"], env: {} });
  const stop = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", stop, { once: true });
  const errors = collect(child.stderr);
  const ended = new Promise<Ending>((resolve) => {
    child.once("error", (error) => resolve({ error }));
    child.once("close", (code, name) => resolve({ code, name }));
  });
  try {
    let rest: Buffer = Buffer.alloc(0);
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      const bytes = Buffer.concat([rest, chunk]);
      const end = bytes.lastIndexOf(0) + 1;
      if (end > 0) yield changesIn(bytes.subarray(0, end));
      rest = bytes.subarray(end);
    }
    const ending = await ended;
    if (signal.aborted) throw new CancelledError("the comparison was cancelled");
    if (ending.code !== 0) throw failureOf(programs.archive, "the container's root", ending, errors.text());
  } finally {
    signal.removeEventListener("abort", stop);
    // whoever reads no further needs no more of it
    stop();
    await ended;
  }
}

/** Records are "A path" with a NUL at their end. */
function changesIn(bytes: Buffer): RootChange[] {
  const changes: RootChange[] = [];
  for (let begin = 0; begin < bytes.length; ) {
    const end = bytes.indexOf(0, begin);
    const kind = kinds[String.fromCharCode(bytes[begin] as number)] as ChangeKind;
    changes.push({ kind, path: bytes.subarray(begin + 2, end) });
    begin = end + 1;
  }
  return changes;
}
