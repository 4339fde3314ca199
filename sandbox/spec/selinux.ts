/** SELinux contexts, "user:role:type:level", and those that a request asks for. Pure. */
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "../errors.js";

/** What a pod's or a container's processes run as, and what their files are labelled with. */
export interface SelinuxLabels {
  process: string;
  /** absent: files keep their labels, because the policy has none for containers */
  mount?: string;
}

export interface SelinuxContext {
  user: string;
  role: string;
  type: string;
  /** may have colons; empty: the policy has no levels */
  level: string;
}

/** The parts that a request names, "" for the others; undefined: it names none. InvalidArgumentError: no context's part. */
export function askedContext(
  options: runtime.v1.ISELinuxOption | null | undefined,
  field: string,
): SelinuxContext | undefined {
  const { user, role, type, level } = options ?? {};
  if (!user && !role && !type && !level) return undefined;
  for (const [name, value] of Object.entries({ user, role, type })) {
    if (value && !/^[A-Za-z0-9_.-]+$/.test(value)) {
      throw new InvalidArgumentError(`${field}.${name}: ${JSON.stringify(value)} is no part of a label`);
    }
  }
  if (level && !/^[A-Za-z0-9_.,:-]+$/.test(level)) {
    throw new InvalidArgumentError(`${field}.level: ${JSON.stringify(level)} is no level`);
  }
  return { user: user ?? "", role: role ?? "", type: type ?? "", level: level ?? "" };
}

/** Undefined: the text is no context. */
export function parseContext(text: string): SelinuxContext | undefined {
  const [, user, role, type, level = ""] = /^([^:\s]+):([^:\s]+):([^:\s]+)(?::(\S+))?$/.exec(text) ?? [];
  if (user === undefined || role === undefined || type === undefined) return undefined;
  return { user, role, type, level };
}

export function formatContext({ user, role, type, level }: SelinuxContext): string {
  return [user, role, type, ...(level === "" ? [] : [level])].join(":");
}

/** What is asked for, the rest from the defaults. */
export function mergeContexts(asked: SelinuxContext, defaults: SelinuxContext): SelinuxContext {
  return {
    user: asked.user || defaults.user,
    role: asked.role || defaults.role,
    type: asked.type || defaults.type,
    level: asked.level || defaults.level,
  };
}
