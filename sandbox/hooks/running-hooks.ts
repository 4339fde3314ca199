/**
 * Which hooks run beside the agent. One that hangs would outlive an agent that is killed, and go on with a container that
 * the next agent takes away. PR_SET_PDEATHSIG would end the hook alone, not what a script waits for; so the next agent
 * ends them: a file with the hook's mark is there before the hook, and until it has ended, and the mark stands in the
 * environment of the hook and of all that it starts. What a hook has left running when it was done has no file, and stays.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { endLeftoverProcesses } from "../leftover-processes.js";
import type { NodePaths } from "../paths.js";

/** The variable that has the mark. */
export const hookMark = "BERTH_HOOK";

type Paths = Pick<NodePaths, "run">;

const directoryOf = ({ run }: Paths) => join(run, "hooks");

/** `run` is given the mark, and is over when the hook is. */
export async function whileHookRuns(paths: Paths, run: (mark: string) => Promise<void>): Promise<void> {
  const mark = randomBytes(16).toString("hex");
  const file = join(directoryOf(paths), mark);
  mkdirSync(directoryOf(paths), { recursive: true, mode: 0o700 });
  writeFileSync(file, "", { mode: 0o600 });
  try {
    await run(mark);
  } finally {
    rmSync(file, { force: true });
  }
}

/** Those of an earlier agent that was killed. @throws InternalError: one does not end */
export async function endLeftoverHooks(paths: Paths): Promise<void> {
  const marks = new Set(marksIn(directoryOf(paths)));
  if (marks.size === 0) return;
  await endLeftoverProcesses("hooks", (environment) => marks.has(environment.get(hookMark) ?? ""));
  for (const mark of marks) rmSync(join(directoryOf(paths), mark), { force: true });
}

function marksIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
