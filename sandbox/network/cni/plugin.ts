/** Runs a CNI plugin (CNI specification 1.1.0, section 2): a program with parameters in its environment and JSON on its pipes. */
import { accessSync, constants as modes, statSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { DeadlineExceededError, FailedPreconditionError, InternalError, messageOf } from "../../errors.js";
import { Program, type ProgramEnd } from "./program.js";
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
  /** the same, for want of time */
  hurry?: AbortSignal;
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

/** What the others print, but for an error, is nothing to go by. */
const hasResult: Readonly<Record<CniCommand, boolean>> = {
  ADD: true,
  DEL: false,
  CHECK: false,
  STATUS: false,
  GC: false,
  VERSION: true,
};
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
  const output: Buffer[] = [];
  let outputBytes = 0;
  let errors = Buffer.alloc(0);
  let program: Program;
  try {
    program = await Program.start({
      path,
      environment: {
        ...process.env,
        ...run.environment,
        CNI_COMMAND: run.command,
        CNI_PATH: run.directories.join(":"),
      },
      input: JSON.stringify(run.configuration),
      onOutput: (bytes) => {
        outputBytes += bytes.length;
        if (outputBytes <= maxOutputBytes) output.push(Buffer.from(bytes));
        else program.killAll();
      },
      onErrors: (bytes) => {
        errors = Buffer.concat([errors, bytes.subarray(-keptErrorBytes)]).subarray(-keptErrorBytes);
      },
    });
  } catch (error) {
    throw new InternalError(`${name} cannot be executed: ${messageOf(error)}`, { cause: error });
  }
  const { code, signal, cut } = await untilEnd(program, run);
  const complaint = errors.toString().trim();
  const said = complaint === "" ? "" : `; on its standard error: ${complaint}`;
  if (cut === "hurry") throw new DeadlineExceededError(`${name} was ended, because pods waited for it${said}`);
  if (cut === "time") throw new DeadlineExceededError(`${name} was not done within ${run.timeoutMs / 1000} s${said}`);
  if (outputBytes > maxOutputBytes) throw new InternalError(`${name} printed more than ${maxOutputBytes} bytes`);
  if (signal !== null) throw new InternalError(`${name} was ended by ${signalName(signal)}${said}`);
  return readOutput(name, Buffer.concat(output).toString(), {
    code: code ?? 0,
    said,
    hasResult: hasResult[run.command],
  });
}

/** @throws FailedPreconditionError: none of the directories has it as a program */
export function findPlugin(type: string, directories: readonly string[]): string {
  for (const directory of directories) {
    const path = join(directory, type);
    try {
      accessSync(path, modes.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // the next may have it
    }
  }
  throw new FailedPreconditionError(`CNI plugin ${type} is not in ${directories.join(", ")}`);
}

async function untilEnd(
  program: Program,
  { timeoutMs, hurry }: PluginRun,
): Promise<ProgramEnd & { cut?: "time" | "hurry" }> {
  let cut: "time" | "hurry" | undefined;
  let killTimer: NodeJS.Timeout | undefined;
  const end = (why: "time" | "hurry"): void => {
    cut ??= why;
    program.terminate();
    killTimer ??= setTimeout(() => program.killAll(), graceMs);
  };
  const timer = setTimeout(end, timeoutMs, "time");
  const onHurry = () => end("hurry");
  hurry?.addEventListener("abort", onHurry);
  if (hurry?.aborted) onHurry();
  const ended = await program.ended;
  hurry?.removeEventListener("abort", onHurry);
  clearTimeout(timer);
  clearTimeout(killTimer);
  return { ...ended, ...(cut !== undefined && { cut }) };
}

function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
}

function readOutput(
  name: string,
  stdout: string,
  { code, said, hasResult }: { code: number; said: string; hasResult: boolean },
): Json | undefined {
  let value: unknown;
  try {
    if (stdout.trim() !== "") value = JSON.parse(stdout);
  } catch {
    if (code === 0 && hasResult) throw new InternalError(`${name} printed what is no JSON: ${excerpt(stdout)}${said}`);
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
  if (value !== undefined && printed === undefined && hasResult) {
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
