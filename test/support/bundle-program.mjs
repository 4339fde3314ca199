// The agent and the command as the package has them: what whole test runs start, and what the benchmarks measure.
import { mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { bundle } from "../../deploy/deb/bundle.mjs";

/** Names it to what starts agents (test/support/agent.ts); the addon is where the package has it. */
export async function bundleProgram(repository) {
  const directory = join(repository, "build", "tested");
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  await bundle(repository, join(directory, "dist"));
  symlinkSync("..", join(directory, "build"));
  process.env.BERTH_TEST_PROGRAM = join(directory, "dist/agent/cli/main.js");
}
