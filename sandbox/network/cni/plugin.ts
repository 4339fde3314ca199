/** Runs a CNI plugin (CNI specification 1.1.0, section 2): a program with parameters in its environment and JSON on its pipes. */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { join } from "node:path";
import { DeadlineExceededError, FailedPreconditionError, InternalError } from "../../errors.js";
import type { Json } from "./result.js";

export type CniCommand = "ADD" | "DEL" | "CHECK" | "STATUS" | "GC" | "VERSION";

export interface PluginRun {
  /** the plugin's name: a file in one of the directories */
  type: string;
  command: CniCommand;
  /** searched in order */
  directories: readonly string[];
  /** CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS; those that the command has */
  environment: Readonly<Record<string, string>>;
  configuration: Json;
  /** the plugin is asked to end (SIGTERM), and a second later it and what it has started is killed */
  timeoutMs: number;
}

/** What a plugin itself says is wrong (CNI specification, section 5, "Error"). */
export class PluginError extends InternalError {
  constructor(
    message: string,
    /** below 100: the specification's */
    readonly code: number,
  ) {
    super(message);
  }
}

const maxOutputBytes = 4 * 1024 * 1024;
const keptErrorBytes = 2_000;
const graceMs = 1_000;

/**
 * Answers what the plugin has printed: a JSON object; none when it printed nothing.
 * @throws FailedPreconditionError: there is no such plugin; DeadlineExceededError; PluginError; InternalError: it was
 *   killed, or what it printed is no JSON object. The sentences name the plugin and the command.
 */
export async function runPlugin(run: PluginRun): Promise<Json | undefined> {
  const path = findPlugin(run.type, run.directories);
  const name = `CNI plugin ${run.type} ${run.command}`;
  const child = spawn(path, [], {
    cwd: "/",
    env: { ...process.env, ...run.environment, CNI_COMMAND: run.command, CNI_PATH: run.directories.join(":") },
    // a process group of its own, so that what it starts can be ended with it
    detached: true,
    stdio: ["pipe", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  let tooMuch = false;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    if (stdout.length <= maxOutputBytes) return;
    tooMuch = true;
    stdout = "";
    killGroup(child);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-keptErrorBytes);
  });
  // it need not read its configuration
  child.stdin.on("error", () => undefined);
  child.stdin.end(JSON.stringify(run.configuration));

  const { code, signal, timedOut } = await untilEnd(child, run.timeoutMs, name);
  // a turn for what it wrote last; whoever else holds its pipes is not waited for
  await new Promise((resolve) => setImmediate(resolve));
  child.stdout.destroy();
  child.stderr.destroy();
  const said = stderr.trim() === "" ? "" : `; on its standard error: ${stderr.trim()}`;
  if (timedOut) throw new DeadlineExceededError(`${name} was not done within ${run.timeoutMs / 1000} s${said}`);
  if (tooMuch) throw new InternalError(`${name} printed more than ${maxOutputBytes} bytes`);
  if (signal !== null) throw new InternalError(`${name} was ended by ${signal}${said}`);
  return readOutput(name, stdout, code ?? 0, said);
}

/** @throws FailedPreconditionError: none of the directories has it as a program */
export function findPlugin(type: string, directories: readonly string[]): string {
  for (const directory of directories) {
    const path = join(directory, type);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // the next may have it
    }
  }
  throw new FailedPreconditionError(`CNI plugin ${type} is not in ${directories.join(", ")}`);
}

interface End {
  code: number | null;
  signal: NodeJS.Signals | null;
  timedOut: boolean;
}

function untilEnd(child: ChildProcess, timeoutMs: number, name: string): Promise<End> {
  return new Promise((resolve, reject) => {
    let timedOut = false;
    let killTimer: NodeJS.Timeout | undefined;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGTERM");
      killTimer = setTimeout(() => killGroup(child), graceMs);
    }, timeoutMs);
    const settle = () => {
      clearTimeout(timer);
      clearTimeout(killTimer);
    };
    child.once("error", (error) => {
      settle();
      reject(new InternalError(`${name} cannot be executed: ${error.message}`, { cause: error }));
    });
    child.once("exit", (code, signal) => {
      settle();
      // children that it has left behind would hold the pod's network namespace
      killGroup(child);
      resolve({ code, signal, timedOut });
    });
  });
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // nobody is left in it
  }
}

function readOutput(name: string, stdout: string, code: number, said: string): Json | undefined {
  let value: unknown;
  try {
    if (stdout.trim() !== "") value = JSON.parse(stdout);
  } catch {
    if (code === 0) throw new InternalError(`${name} printed what is no JSON: ${excerpt(stdout)}${said}`);
  }
  const printed = typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
  // some exit with 0 all the same
  if (code !== 0 || isError(printed)) {
    const { code: own, msg, details } = printed ?? {};
    const words = [msg, details].filter((text) => typeof text === "string" && text !== "").join(": ");
    throw new PluginError(
      `${name} failed (code ${typeof own === "number" ? own : code}): ${words || excerpt(stdout)}${said}`,
      typeof own === "number" ? own : 0,
    );
  }
  if (value !== undefined && printed === undefined) {
    throw new InternalError(`${name} printed no JSON object: ${excerpt(stdout)}`);
  }
  return printed;
}

function isError(printed: Json | undefined): boolean {
  return typeof printed?.code === "number" && typeof printed.msg === "string";
}

function excerpt(text: string): string {
  return text.trim() === "" ? "it printed nothing" : JSON.stringify(text.trim().slice(0, 300));
}
