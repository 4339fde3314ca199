/**
 * A container's hooks at the OCI's points. createRuntime (and prestart), poststart and poststop run beside the agent;
 * createContainer and startContainer are the monitor's, in the container's namespaces.
 */
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import Long from "long";
import type { berth } from "../../cri-proto/generated/monitor.js";
import type { ContainerConfig, ContainerRecord } from "../container.js";
import { FailedPreconditionError, messageOf } from "../errors.js";
import type { SandboxNode } from "../node.js";
import { podDirectory } from "../paths.js";
import type { PodSandboxConfig } from "../pod.js";
import { completeSpec } from "../seccomp-filters.js";
import { specToJson } from "../spec/bundle-spec.js";
import type { Hook, HookStage, OciSpec } from "../spec/oci.js";
import type { HookSubject } from "./directory.js";
import { completeHook, runHook } from "./run-hook.js";

type Status = "creating" | "created" | "running" | "stopped";
type Node = Pick<SandboxNode, "paths" | "snapshots" | "observer">;

/** Where the monitor shows them to createContainer hooks in a user namespace. */
const [shownBundle, shownRoot] = ["/dev/bundle", "/dev/root"];

/** What a hook file's conditions are held against. */
export function hookSubject(config: ContainerConfig, podConfig: PodSandboxConfig, spec: OciSpec): HookSubject {
  return {
    annotations: { ...podConfig.annotations, ...config.annotations },
    command: spec.process.args[0] ?? "",
    hasBindMounts: config.mounts?.some(({ host_path }) => Boolean(host_path)) ?? false,
  };
}

/** The hooks that the monitor has to know of; null: it needs to know of none. */
export function planHooks(node: Node, spec: OciSpec, id: string): berth.monitor.v1.IHooks | null {
  const { hooks } = spec;
  if (hooks === undefined) return null;
  const createContainer = (hooks.createContainer ?? []).map(toPlan);
  const startContainer = (hooks.startContainer ?? []).map(toPlan);
  const pause = runtimeHooks(spec).length > 0 || createContainer.length > 0;
  const has = (wanted: string) => spec.linux.namespaces.some(({ type }) => type === wanted);
  // elsewhere the hook runs before the namespace is joined; with a user namespace in it, the host's root before its eyes
  if (createContainer.length > 0 && has("user") && !has("pid")) {
    throw new FailedPreconditionError(
      "createContainer hooks need a container with a PID namespace of its own where the pod has a user namespace: whoever shares it could look into them",
    );
  }
  if (!pause && startContainer.length === 0) return null;
  const bundle = bundleDirectory(node, id);
  return {
    pause,
    create_container: createContainer,
    start_container: startContainer,
    create_state: stateUpToPid(spec, { id, status: "creating", bundle: has("user") ? shownBundle : bundle }),
    start_state: stateUpToPid(spec, { id, status: "created", bundle }),
    ...(has("user") && pause && { bundle }),
  };
}

function toPlan(hook: Hook): berth.monitor.v1.IHook {
  const { path, args, env, timeoutMs } = completeHook(hook);
  return { path, args, env, timeout_ms: Long.fromNumber(timeoutMs, true) };
}

/** In the order in which they run; prestart's place is the same. */
function runtimeHooks(spec: OciSpec): { stage: HookStage; hook: Hook }[] {
  return (["prestart", "createRuntime"] as const).flatMap((stage) =>
    (spec.hooks?.[stage] ?? []).map((hook) => ({ stage, hook })),
  );
}

/** createRuntime: the namespaces are there, the host's root is not left yet. One that fails ends the creation. */
export async function runCreateRuntimeHooks(node: Node, spec: OciSpec, id: string, pid: number): Promise<void> {
  const state = `${stateUpToPid(spec, { id, status: "creating", bundle: bundleDirectory(node, id) })}${pid}}`;
  for (const { stage, hook } of runtimeHooks(spec)) {
    try {
      await runHook(node.paths, stage, hook, state);
    } catch (error) {
      throw new FailedPreconditionError(messageOf(error), { cause: error });
    }
  }
}

/** poststart and poststop: what fails is told, and the others run. */
export async function runLaterHooks(
  node: Node,
  stage: "poststart" | "poststop",
  { id, spec }: Pick<ContainerRecord, "id" | "spec">,
  pid: number,
): Promise<void> {
  const hooks = spec?.hooks?.[stage];
  if (!spec || hooks === undefined) return;
  const status = stage === "poststart" ? "running" : "stopped";
  const state = `${stateUpToPid(spec, { id, status, bundle: bundleDirectory(node, id) })}${pid}}`;
  for (const hook of hooks) {
    try {
      await runHook(node.paths, stage, hook, state);
    } catch (error) {
      node.observer.emit({ type: "trouble", what: `run the ${stage} hook`, subject: id, error });
    }
  }
}

/**
 * The bundle that hooks find by their state: config.json, whose root is the path at which the root file system stands in
 * the container's mount namespace while createContainer hooks run. It goes with the container's directory.
 */
export async function writeHookBundle(node: Node, spec: OciSpec, { id, podId }: { id: string; podId: string }) {
  if (spec.hooks === undefined) return;
  const directory = bundleDirectory(node, id);
  const inUserNamespace = spec.linux.namespaces.some(({ type }) => type === "user");
  await mkdir(directory, { mode: 0o700 });
  const root = { ...spec.root, path: inUserNamespace ? shownRoot : podDirectory(node.paths, podId) };
  const config = specToJson({ ...completeSpec(spec), root });
  await writeFile(join(directory, "config.json"), config, { mode: 0o600 });
  if (!inUserNamespace) return;
  // the namespace's root, who is shown it, is not its owner; on the host the directories above it are closed
  await chmod(directory, 0o755);
  await chmod(join(directory, "config.json"), 0o644);
}

function bundleDirectory(node: Node, id: string): string {
  return join(node.snapshots.directory, id, "bundle");
}

/** The OCI's state as far as the number of the process, which comes last. */
function stateUpToPid(spec: OciSpec, known: { id: string; status: Status; bundle: string }): string {
  const state = { ociVersion: spec.ociVersion, ...known, annotations: spec.annotations ?? {} };
  return `${JSON.stringify(state).slice(0, -1)},"pid":`;
}
