/** The probe that looks around inside containers: made here, or found where somebody has made it for a machine without g++. */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const source = fileURLToPath(new URL("../../../../test/support/comparison/probe.cc", import.meta.url));
const prepared = fileURLToPath(new URL("../../../../build/vm/comparison-probe", import.meta.url));

/** Whether this machine can have one. */
export function hasProbe(): boolean {
  return existsSync(prepared) || spawnSync("g++", ["--version"]).error === undefined;
}

/** Writes the program; an Error has the compiler's words. */
export function makeProbe(path: string): void {
  if (!existsSync(source)) {
    copyFileSync(prepared, path);
    return;
  }
  const made = spawnSync("g++", [..."-std=c++20 -O1 -Wall -Wextra -Werror -static -o".split(" "), path, source]);
  if (made.error !== undefined || made.status !== 0) throw made.error ?? new Error(made.stderr.toString());
}
