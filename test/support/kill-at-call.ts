/** Ends an agent with SIGKILL at the n-th thing that it does to the machine (test/faults/kill-at-call.c). */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const many = 1_000_000;

export const noCompiler = spawnSync("cc", ["--version"]).status !== 0 && "there is no C compiler";

export interface Killer {
  /** of the agent */
  env: Record<string, string>;
  /** the agent is killed at the n-th call from now on; 0: at none */
  arm(calls: number): void;
  /** whether that has come to pass since it was armed */
  hasKilled(): boolean;
  /** how many calls of the agent `run` needs */
  stepsOf<T>(run: () => Promise<T>): Promise<{ steps: number; result: T }>;
}

/** @param directory where the library and the counter may lie, until the agent has ended */
export function makeKiller(directory: string): Killer {
  const counter = join(directory, "counter");
  const library = join(directory, "kill-at-call.so");
  const source = fileURLToPath(new URL("../../../test/faults/kill-at-call.c", import.meta.url));
  execFileSync("cc", ["-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"]);
  const arm = (calls: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(calls);
    writeFileSync(counter, bytes, { flag: existsSync(counter) ? "r+" : "w" });
  };
  arm(0);
  const left = () => readFileSync(counter).readInt32LE();
  return {
    env: { LD_PRELOAD: library, KILL_AT_CALL: counter },
    arm,
    hasKilled: () => left() === 0,
    async stepsOf(run) {
      arm(many);
      const result = await run();
      const steps = many - left();
      arm(0);
      return { steps, result };
    },
  };
}
