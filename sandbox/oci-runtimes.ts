/** OCI runtimes behind a RuntimeClass: which there are, and which pods are theirs. */
import { FailedPreconditionError, InvalidArgumentError } from "./errors.js";
import type { SandboxNode } from "./node.js";
import type { Pod } from "./pod.js";

/** The names of Berth's own launcher: "" is what a pod without a RuntimeClass asks for. */
export const ownHandlers: readonly string[] = ["", "berth"];

export interface OciRuntime {
  /** the runtime handler */
  readonly name: string;
  /** absolute, of its program */
  readonly path: string;
  /** its own, before the command */
  readonly arguments: readonly string[];
  /** of each command */
  readonly timeoutMs: number;
  /** it says itself that it can */
  readonly recursiveReadonlyMounts: boolean;
  /** its `exec` can be told a child of the container's cgroup */
  readonly execCgroups: boolean;
  /** why it cannot be used; empty: it can */
  readonly problem: string;
  /** its program as it was when it was asked */
  readonly program: string;
}

/** InvalidArgumentError: there is no such handler. FailedPreconditionError: it is configured, but cannot be used. */
export function checkRuntimeHandler(node: Pick<SandboxNode, "runtimes">, handler: string): void {
  checkHandlerIsKnown(node, handler, "runtime_handler");
  const problem = node.runtimes.get(handler)?.problem ?? "";
  if (problem !== "") throw new FailedPreconditionError(`runtime_handler: "${handler}" cannot be used: ${problem}`);
}

/** InvalidArgumentError names the field: there is no such handler. */
export function checkHandlerIsKnown({ runtimes }: Pick<SandboxNode, "runtimes">, handler: string, field: string): void {
  if (ownHandlers.includes(handler) || runtimes.has(handler)) return;
  const known = ['"" and "berth" (which are the same)', ...[...runtimes.keys()].map((name) => `"${name}"`)];
  throw new InvalidArgumentError(`${field}: "${handler}" is not known; there are ${known.join(", ")}`);
}

/** The OCI runtime of a pod's containers; null: they are Berth's own. */
export function runtimeOf(node: Pick<SandboxNode, "runtimes">, pod: Pod): OciRuntime | null {
  const { runtimeHandler } = pod.record;
  if (ownHandlers.includes(runtimeHandler)) return null;
  checkRuntimeHandler(node, runtimeHandler);
  return node.runtimes.get(runtimeHandler) ?? null;
}

/** Is the container made by an OCI runtime? Also when that is not configured any more. */
export function isForeign(node: Pick<SandboxNode, "pods">, podId: string): boolean {
  const pod = node.pods.find(podId);
  return pod !== undefined && !ownHandlers.includes(pod.record.runtimeHandler);
}
