/** Hooks that run beside the agent, in the host's namespaces. */
import { spawn } from "node:child_process";
import type { NodePaths } from "../paths.js";
import type { Hook, HookStage } from "../spec/oci.js";
import { hookMark, whileHookRuns } from "./running-hooks.js";

/** When a hook says nothing else: one that hangs must not keep a pod for ever. */
const defaultTimeoutMs = 60_000;
const maxOutputBytes = 960;
const defaultEnv = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/** As the monitor wants it, and the OCI's words made whole. */
export function completeHook({ path, args, env, timeout }: Hook): {
  path: string;
  args: string[];
  env: string[];
  timeoutMs: number;
} {
  return {
    path,
    args: args?.length ? args : [path],
    env: env ?? defaultEnv,
    timeoutMs: timeout === undefined ? defaultTimeoutMs : timeout * 1000,
  };
}

/** Rejects with a sentence that has the hook's stage, its path, how it ended and what it wrote. */
export function runHook(paths: Pick<NodePaths, "run">, stage: HookStage, hook: Hook, state: string): Promise<void> {
  return whileHookRuns(paths, (mark) => runMarked(stage, hook, state, mark));
}

async function runMarked(stage: HookStage, hook: Hook, state: string, mark: string): Promise<void> {
  const { path, args, env, timeoutMs } = completeHook(hook);
  const [argv0 = path, ...rest] = args;
  await new Promise<void>((resolve, reject) => {
    const fail = (how: string, cause?: unknown) =>
      reject(new Error(`the ${stage} hook ${path} ${how}`, cause === undefined ? {} : { cause }));
    const child = spawn(path, rest, {
      argv0,
      cwd: "/",
      env: {
        ...Object.fromEntries(env.map((text) => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)])),
        [hookMark]: mark,
      },
      // a session of its own, which ends with it at a timeout
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    let output = "";
    let timedOut = false;
    const collect = (data: Buffer) => {
      if (output.length < maxOutputBytes) output += data.toString("utf8").slice(0, maxOutputBytes - output.length);
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    const timer = setTimeout(() => {
      timedOut = true;
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    }, timeoutMs);
    child.once("error", (error) => {
      clearTimeout(timer);
      fail(`cannot be executed: ${error.message}`, error);
    });
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      // a turn for what it wrote last; whoever else holds its pipes is not waited for
      setImmediate(() => {
        child.stdout.destroy();
        child.stderr.destroy();
        const wrote = output.trim();
        if (timedOut) fail(`was not done within ${timeoutMs} ms: ${wrote}`);
        else if (signal !== null) fail(`was ended by ${signal}: ${wrote}`);
        else if (code !== 0) fail(`ended with code ${code}: ${wrote}`);
        else resolve();
      });
    });
    // it need not read its standard input
    child.stdin.on("error", () => undefined);
    child.stdin.end(state);
  });
}
