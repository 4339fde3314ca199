/**
 * Hooks from a configured directory: a JSON file each, in the format that is known as hooks.d 1.0.0. A file says which
 * program, at which stages, and for which containers; the conditions that it names must all hold.
 */
import { constants } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { FailedPreconditionError, messageOf } from "../errors.js";
import { type Hooks, hookStages } from "../spec/oci.js";

const maxFileBytes = 1024 * 1024;

const pattern = v.pipe(
  v.string(),
  v.check((text) => toRegExp(text) !== null, "is no regular expression"),
);

const schema = v.strictObject({
  version: v.literal("1.0.0", "is not 1.0.0"),
  hook: v.strictObject({
    path: v.pipe(v.string(), v.regex(/^\/[^\0]*$/, "is not an absolute path")),
    args: v.optional(v.pipe(v.array(v.string()), v.minLength(1, "is empty"))),
    env: v.optional(v.array(v.pipe(v.string(), v.regex(/^[^=\0]+=[^\0]*$/, "is not NAME=value")))),
    timeout: v.optional(v.pipe(v.number(), v.integer("is no whole number"), v.minValue(1, "is below 1 s"))),
  }),
  when: v.pipe(
    v.strictObject({
      always: v.optional(v.boolean()),
      annotations: v.optional(v.record(pattern, pattern)),
      commands: v.optional(v.array(pattern)),
      hasBindMounts: v.optional(v.boolean()),
    }),
    v.check((when) => Object.values(when).some((value) => value !== undefined), "names no condition"),
  ),
  stages: v.pipe(v.array(v.picklist(hookStages, "is no stage")), v.minLength(1, "is empty")),
});

export type HookFile = v.InferOutput<typeof schema>;

/** What of a container a hook's conditions are held against. */
export interface HookSubject {
  /** of the pod and the container */
  annotations: Record<string, string>;
  /** process.args[0] */
  command: string;
  /** the request mounts something of the host */
  hasBindMounts: boolean;
}

/**
 * The hooks of a directory that are for this container, in the order of their files' names. A file that cannot be used
 * is an error: a hook that is left out may be what keeps a container in its bounds.
 */
export async function findHooks(directory: string | null, subject: HookSubject): Promise<Hooks[]> {
  if (directory === null) return [];
  const found: Hooks[] = [];
  for (const file of await hookFiles(directory)) {
    const { hook, when, stages } = await readHookFile(file);
    if (!isFor(when, subject)) continue;
    const { path, args, env, timeout } = hook;
    const entry = { path, ...(args && { args }), ...(env && { env }), ...(timeout !== undefined && { timeout }) };
    found.push(Object.fromEntries(stages.map((stage) => [stage, [entry]])));
  }
  return found;
}

/** @throws Error whose message says what is wrong with which field */
export function checkHookFile(content: unknown): HookFile {
  const result = v.safeParse(schema, content);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new Error(`${v.getDotPath(issue) ?? "the file"}: ${issue.message}`);
}

export function isFor(when: HookFile["when"], subject: HookSubject): boolean {
  const { always, annotations, commands, hasBindMounts } = when;
  const entries = Object.entries(subject.annotations);
  const conditions: boolean[] = [];
  if (always !== undefined) conditions.push(always);
  if (hasBindMounts !== undefined) conditions.push(hasBindMounts && subject.hasBindMounts);
  for (const [key, value] of Object.entries(annotations ?? {})) {
    conditions.push(entries.some(([name, text]) => matches(key, name) && matches(value, text)));
  }
  if (commands !== undefined) conditions.push(commands.some((command) => matches(command, subject.command)));
  return conditions.length > 0 && conditions.every(Boolean);
}

function matches(expression: string, text: string): boolean {
  return toRegExp(expression)?.test(text) ?? false;
}

function toRegExp(expression: string): RegExp | null {
  try {
    return new RegExp(expression);
  } catch {
    return null;
  }
}

async function hookFiles(directory: string): Promise<string[]> {
  try {
    const names = await readdir(directory);
    return names
      .filter((name) => name.endsWith(".json"))
      .sort()
      .map((name) => join(directory, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new FailedPreconditionError(`the hooks directory cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

async function readHookFile(path: string): Promise<HookFile> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw new Error("it is no regular file");
      if (stats.size > maxFileBytes) throw new Error("it is larger than 1 MiB");
      return checkHookFile(JSON.parse(await file.readFile("utf8")));
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new FailedPreconditionError(`the hook file ${path} cannot be used: ${messageOf(error)}`, { cause: error });
  }
}
