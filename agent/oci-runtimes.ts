/** The configuration's OCI runtimes: [runtimes.NAME] in config.toml, and what each says of itself. */
import { execFile } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { isAbsolute, normalize } from "node:path";
import { promisify } from "node:util";
import * as v from "valibot";
import { InvalidArgumentError, messageOf } from "../sandbox/errors.js";
import type { SandboxNode } from "../sandbox/node.js";
import { type OciRuntime, ownHandlers } from "../sandbox/oci-runtimes.js";

/** A runtime as it is configured. */
export type OciRuntimeSettings = Pick<OciRuntime, "name" | "path" | "arguments" | "timeoutMs">;

/** A command takes tens of milliseconds; a loaded machine is no reason to give up. */
const defaultTimeoutSeconds = 30;
const featuresTimeoutMs = 5_000;

const schema = v.strictObject({
  path: v.pipe(
    v.string("is not a text"),
    v.check((path) => isAbsolute(path) && !path.includes("\0"), "is not an absolute path"),
    v.transform(normalize),
  ),
  arguments: v.optional(
    v.array(
      v.pipe(v.string("is not a text"), v.regex(/^[^\0]+$/, "is empty or holds a NUL")),
      "is not a list of texts",
    ),
    [],
  ),
  timeout: v.optional(
    v.pipe(
      v.number("is not a number of seconds"),
      v.minValue(1, "is less than a second"),
      v.maxValue(3600, "is more than an hour"),
    ),
    defaultTimeoutSeconds,
  ),
});

/** The table \`runtimes\`; \`place\` is where it is written. InvalidArgumentError names the setting. */
export function parseRuntimes(table: unknown, place: string): OciRuntimeSettings[] {
  if (table === undefined) return [];
  if (typeof table !== "object" || table === null || Array.isArray(table)) {
    throw new InvalidArgumentError(`${place} is not a table of runtimes, as [runtimes.runc]`);
  }
  return Object.entries(table).map(([name, settings]: [string, unknown]) => {
    const at = `${place}.${name}`;
    if (!isHandler(name)) {
      throw new InvalidArgumentError(`${at}: ${JSON.stringify(name)} cannot be the name of a RuntimeClass' handler`);
    }
    if (ownHandlers.includes(name)) throw new InvalidArgumentError(`${at}: "${name}" is Berth's own launcher`);
    const result = v.safeParse(schema, settings);
    if (result.success) {
      const { path, timeout } = result.output;
      return { name, path, arguments: result.output.arguments, timeoutMs: timeout * 1000 };
    }
    const [issue] = result.issues;
    const key = issue.path?.map((part) => String(part.key)).join(".") ?? "";
    if (key === "") throw new InvalidArgumentError(`${at} is not a table with the runtime's path`);
    if (issue.expected === "never") throw new InvalidArgumentError(`${at}: there is no setting "${key}"`);
    if (issue.type === "strict_object") throw new InvalidArgumentError(`${at}.${key} is missing`);
    throw new InvalidArgumentError(`${at}.${key} ${JSON.stringify(issue.input)} ${issue.message}`);
  });
}

/** Asks each runtime what it can. One that cannot be used is told with its problem, and keeps nothing else. */
export async function probeRuntimes(configured: readonly OciRuntimeSettings[]): Promise<Map<string, OciRuntime>> {
  const probed = await Promise.all(configured.map(probe));
  return new Map(probed.map((runtime) => [runtime.name, runtime]));
}

/** Asks those again whose program was installed, replaced or taken away since. Cheap where there is none. */
export async function refreshRuntimes(node: Pick<SandboxNode, "runtimes">): Promise<void> {
  const known = node.runtimes;
  const isAsAsked = ({ path, program }: OciRuntime) => programAt(path) === program;
  if ([...known.values()].every(isAsAsked)) return;
  const asked = [...known.values()].map((runtime) => (isAsAsked(runtime) ? runtime : probe(runtime)));
  const refreshed = new Map((await Promise.all(asked)).map((runtime) => [runtime.name, runtime]));
  // the configuration may have been read again meanwhile
  if (node.runtimes === known) node.runtimes = refreshed;
}

/** What changes when it is another one, or may be executed by then. */
function programAt(path: string): string {
  const status = statSync(path, { bigint: true, throwIfNoEntry: false });
  return [status?.ino, status?.mtimeNs, status?.ctimeNs].join(" ");
}

async function probe({ name, path, arguments: own, timeoutMs }: OciRuntimeSettings): Promise<OciRuntime> {
  const settings = { name, path, arguments: own, timeoutMs, program: programAt(path) };
  try {
    accessSync(settings.path, constants.X_OK);
    // a directory can be "executed", too
    if (!statSync(settings.path).isFile()) throw new Error(`${settings.path} is no program`);
  } catch (error) {
    return { ...settings, recursiveReadonlyMounts: false, execCgroups: false, problem: messageOf(error) };
  }
  const [recursiveReadonlyMounts, execCgroups] = await Promise.all([
    saysRecursiveReadonly(settings),
    takesExecCgroup(settings),
  ]);
  return { ...settings, recursiveReadonlyMounts, execCgroups, problem: "" };
}

/** Older runtimes have no such command: then nothing is promised for them. */
async function saysRecursiveReadonly({ path, arguments: own }: OciRuntimeSettings): Promise<boolean> {
  try {
    const { stdout } = await promisify(execFile)(path, [...own, "features"], { timeout: featuresTimeoutMs });
    const features: unknown = JSON.parse(stdout);
    const options = features !== null && typeof features === "object" && "mountOptions" in features;
    return options && Array.isArray(features.mountOptions) && features.mountOptions.includes("rro");
  } catch {
    return false;
  }
}

/** `features` does not tell that; the option is in the help of those that have it. */
async function takesExecCgroup({ path, arguments: own }: OciRuntimeSettings): Promise<boolean> {
  try {
    const { stdout } = await promisify(execFile)(path, [...own, "exec", "--help"], { timeout: featuresTimeoutMs });
    return /^\s*--cgroup[= ]/m.test(stdout);
  } catch {
    return false;
  }
}

/** Whether a RuntimeClass' handler can have the name. */
export function isHandler(name: string): boolean {
  return /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/.test(name);
}
