/** Modules of the administrator's that adjust containers' OCI specs, one after the other, before they are made. */
import type { AdjustSpec } from "../../sandbox/adjust-spec.js";
import { adjustedAnnotation } from "../../sandbox/adjust-spec.js";
import { FailedPreconditionError } from "../../sandbox/errors.js";
import type { OciSpec } from "../../sandbox/spec/oci.js";
import { type Change, changes, changeText } from "./diff.js";
import { HookThread } from "./spec-hook.js";

/**
 * What follows from the request and is used again later: an exec finds the seccomp filter again from the request, and the
 * cgroup, the root and the namespaces are made already.
 */
const fixed =
  /^(?:ociVersion|root\.path|annotations\.berth\.|linux\.(?:seccomp|namespaces|cgroupsPath|uidMappings|gidMappings))/;

/** Of the kinds that a spec has at its top and in its process: a module that answers less than that has lost something. */
const needed = ["process.args", "process.env", "process.cwd", "process.user.uid", "process.capabilities", "mounts"];

/** @param tell hears of each container that was adjusted, and how */
export function openSpecHooks(
  paths: readonly string[],
  tell: (containerId: string, path: string, changed: readonly string[]) => void,
): AdjustSpec {
  const threads = paths.map((path) => new HookThread(path));
  return async (spec, subject) => {
    let current = spec;
    const all: string[] = [];
    for (const thread of threads) {
      const answer = await thread.call(current, subject);
      const changed = [...changes(current, answer)];
      check(thread.path, changed, current, answer);
      if (changed.length === 0) continue;
      const texts = changed.map(changeText);
      tell(subject.containerId, thread.path, texts);
      all.push(...texts.map((text) => `${thread.path}: ${text}`));
      current = answer;
    }
    if (all.length === 0) return current;
    return { ...current, annotations: { ...current.annotations, [adjustedAnnotation]: JSON.stringify(all) } };
  };
}

function check(path: string, changed: readonly Change[], before: OciSpec, after: OciSpec): void {
  const refused = changed.find((change) => fixed.test(change.path));
  if (refused !== undefined)
    throw new FailedPreconditionError(`${path}: ${refused.path} cannot be changed by a module`);
  for (const place of needed) {
    const [was, is] = [kindAt(before, place), kindAt(after, place)];
    if (was !== is) throw new FailedPreconditionError(`${path}: ${place} is ${is} in its answer, not ${was}`);
  }
}

function kindAt(value: unknown, path: string): string {
  let found = value;
  for (const key of path.split(".")) found = (found as Record<string, unknown> | undefined)?.[key];
  return Array.isArray(found) ? "a list" : found === undefined ? "nothing" : `a ${typeof found}`;
}
