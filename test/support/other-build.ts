/** Other versions of Berth, made from this build: what a test of upgrades starts before or after this one. */
import { cpSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = fileURLToPath(new URL("../../..", import.meta.url));

/** Copies what an agent needs into a new directory, where it may be changed. Answers the program, for AgentOptions. */
export function copyBuild(directory: string): string {
  mkdirSync(directory);
  symlinkSync(join(repository, "node_modules"), join(directory, "node_modules"));
  cpSync(join(repository, "package.json"), join(directory, "package.json"));
  for (const name of ["agent", "sandbox", "native", "metrics", "cri-proto"]) {
    cpSync(join(repository, "dist", name), join(directory, "dist", name), { recursive: true });
  }
  mkdirSync(join(directory, "build"));
  for (const name of ["berth.node", "berth-monitor", "berth-unpack", "berth-archive"]) {
    cpSync(join(repository, "build", name), join(directory, "build", name));
  }
  return join(directory, "dist/agent/cli/main.js");
}
