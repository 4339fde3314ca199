import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { isSystemError, native, type SystemError } from "./binding.js";

const execute = promisify(execFile);

/** Mount points at or below a directory, the deepest first. */
export function mountsBelow(directory: string): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((path) => path === directory || path.startsWith(`${directory}/`))
    .reverse();
}

/** A directory of the test's own; removed after it, but never through what is still mounted there. */
export function scratchDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "berth-native-"));
  t.after(async () => {
    for (const path of mountsBelow(directory)) await native.unmount(path);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

let names = 0;

/** Short enough for an interface, and no other test's, in this or another process. */
export function uniqueName(prefix: string): string {
  names += 1;
  return `${prefix}${process.pid.toString(36)}${names.toString(36)}`;
}

export async function run(program: string, ...args: string[]): Promise<string> {
  return (await execute(program, args)).stdout;
}

/** Builds a small C program, for what Node itself cannot do. */
export async function compileProgram(directory: string, name: string, source: string): Promise<string> {
  const output = join(directory, name);
  const compiler = spawn("cc", ["-O1", "-static", "-x", "c", "-o", output, "-"], {
    stdio: ["pipe", "ignore", "inherit"],
  });
  compiler.stdin.end(source);
  const code = await new Promise((resolve, reject) => compiler.on("close", resolve).on("error", reject));
  if (code !== 0) throw new Error(`cc ended with ${code}`);
  return output;
}

/** The error that a call must fail with. */
export async function failure(call: () => unknown): Promise<SystemError> {
  try {
    await call();
  } catch (error) {
    if (isSystemError(error)) return error;
    throw error;
  }
  throw new Error("the call did not fail");
}

/** How many descriptors this process has open; equal before and after means that a call kept none. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** A network namespace that only its descriptor keeps; gone after the test. */
export async function networkNamespace(
  t: TestContext,
): Promise<{ fd: number; run: (program: string, ...args: string[]) => Promise<string> }> {
  const holder = spawn("unshare", ["--net", "sleep", "60"], { stdio: "ignore" });
  try {
    const path = `/proc/${holder.pid}/ns/net`;
    await until("a network namespace", () => readlinkSync(path) !== readlinkSync("/proc/self/ns/net"));
    const fd = native.openPath(path);
    t.after(() => native.closeDescriptor(fd));
    return { fd, run: (...command) => run("nsenter", `--net=/proc/${process.pid}/fd/${fd}`, ...command) };
  } finally {
    holder.kill("SIGKILL");
  }
}

/** Polls until it is so. */
export async function until(what: string, isSo: () => boolean, timeoutMs = 5000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!isSo()) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
