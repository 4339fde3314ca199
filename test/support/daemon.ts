/** Programs of other people that run as long as a test: started, waited for, ended. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface Daemon {
  stop(): Promise<void>;
}

const patienceMs = 60_000;

/** What is not installed of these; empty: nothing is missing. */
export function missingPrograms(...names: string[]): string[] {
  return names.filter((name) => spawnSync("sh", ["-c", `command -v ${name}`]).status !== 0);
}

/** @param ready is asked again and again; its end is waited for */
export async function startDaemon(
  directory: string,
  name: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  ready: () => boolean,
): Promise<Daemon> {
  const logFile = join(directory, `${name}.log`);
  const log = openSync(logFile, "a");
  const child: ChildProcess = spawn(name, args, { stdio: ["ignore", log, log], env });
  closeSync(log);
  const ended = once(child, "close");
  for (const until = Date.now() + patienceMs; !ready(); await sleep(50)) {
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > until) {
      child.kill("SIGKILL");
      throw new Error(`${name} is not ready:\n${readFileSync(logFile, "utf8").slice(-4_000)}`);
    }
  }
  return {
    async stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await ended;
      clearTimeout(timer);
    },
  };
}
