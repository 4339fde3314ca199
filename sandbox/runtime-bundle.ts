/**
 * The bundle that an OCI runtime makes a container from, in the pod's run directory: config.json, and the places where
 * the root and the volumes are attached, in a mount namespace that only the runtime sees.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Long from "long";
import { runtime as cri } from "../cri-proto/generated/runtime.js";
import type { Hierarchy } from "./cgroup/manager.js";
import { InternalError, InvalidArgumentError } from "./errors.js";
import type { LaunchPlan } from "./launch-plan.js";
import type { SandboxNode } from "./node.js";
import type { OciRuntime } from "./oci-runtimes.js";
import { podDirectory } from "./paths.js";
import type { Pod } from "./pod.js";
import { podShmSource } from "./spec/mounts.js";
import { type PidSharing, pidSharingAnnotation } from "./spec/namespaces.js";
import type { Mount, OciSpec } from "./spec/oci.js";
import { runtimeConfig } from "./spec/runtime-config.js";

const { NamespaceMode } = cri.v1;

function bundleDirectory(node: SandboxNode, podId: string, containerId: string): string {
  return join(podDirectory(node.paths, podId), "oci", containerId);
}

/** Makes the bundle, and of the plan for Berth's own launcher the plan for the runtime. The descriptors stay the same. */
export function makeBundle(
  node: SandboxNode,
  pod: Pod,
  { spec, launch, runtime }: { spec: OciSpec; launch: LaunchPlan; runtime: OciRuntime },
): LaunchPlan {
  const bundle = bundleDirectory(node, pod.record.id, spec.annotations?.["berth.container"] ?? "");
  refuseWhatItCannot(spec, runtime);
  mkdirSync(join(bundle, "rootfs"), { recursive: true, mode: 0o700 });
  mkdirSync(join(bundle, "mounts"));
  writeFileSync(join(bundle, "pid"), "", { mode: 0o600 });

  const descriptors = (launch.plan.mounts ?? []).filter(({ source_fd }) => source_fd);
  const sources = new Map<Mount, string>();
  const mounts = spec.mounts.flatMap((mount) => {
    const isShm = mount.type === "tmpfs" && mount.source === podShmSource;
    if (mount.type !== "bind" && !isShm) return [];
    const open = isShm ? { type: "shm" } : descriptors.shift();
    if (open === undefined) throw new InternalError(`the source of the mount on ${mount.destination} was not opened`);
    const place = join(bundle, "mounts", String(sources.size));
    if ("is_file" in open && open.is_file) writeFileSync(place, "", { mode: 0o600 });
    else mkdirSync(place, { mode: 0o700 });
    sources.set(mount, place);
    return [{ ...open, destination: place }];
  });
  const config = runtimeConfig(spec, {
    sources,
    sharing: sharingOf(spec),
    pidNamespace: join(bundle, "pid"),
    podNamespaces: podNamespaces(pod),
    controllers: controllersForRuntimes(node),
  });
  writeFileSync(join(bundle, "config.json"), config, { mode: 0o600 });
  const hidden = node.cgroups.hierarchies.filter((hierarchy) => !isSeen(node, hierarchy));
  return {
    ...launch,
    plan: {
      ...launch.plan,
      mounts,
      devices: [],
      masked_paths: [],
      readonly_paths: [],
      oci_runtime: {
        path: runtime.path,
        arguments: [...runtime.arguments],
        bundle,
        hidden_mounts: hidden.map(({ mountPoint }) => mountPoint),
        timeout_ms: Long.fromNumber(runtime.timeoutMs, true),
        exec_cgroups: runtime.execCgroups,
        cpu_tasks_file: agentsTasksFile(node.cgroups.hierarchies, readFileSync("/proc/self/cgroup", "utf8")),
      },
    },
  };
}

/**
 * By which a process joins the agent's own cgroup, in the processor's hierarchy: the runtime's commands run there. Empty:
 * there is none to be seen. @param membership the agent's /proc/self/cgroup
 */
export function agentsTasksFile(hierarchies: readonly Hierarchy[], membership: string): string {
  const place = hierarchies.find(({ controllers }) => controllers.includes("cpu"));
  const own = membership.split("\n").map((line) => /^\d+:([^:]*):(.*)$/.exec(line));
  const name = place?.version === 2 ? "" : "cpu";
  const path = own.find((match) => match?.[1]?.split(",").includes(name))?.[2];
  if (place === undefined || path === undefined) return "";
  const file = join(place.mountPoint, path, place.version === 2 ? "cgroup.procs" : "tasks");
  return existsSync(file) ? file : "";
}

/** The controllers of the hierarchies that an OCI runtime sees. */
export function controllersForRuntimes(node: SandboxNode): ReadonlySet<string> {
  const seen = node.cgroups.hierarchies.filter((hierarchy) => isSeen(node, hierarchy));
  return new Set(seen.flatMap(({ controllers }) => controllers));
}

/**
 * cgroup2 beside v1's hierarchies is hidden from runtimes, of which some refuse the mixture; the monitor puts the
 * container's processes into it.
 */
function isSeen({ cgroups }: SandboxNode, { version }: Hierarchy): boolean {
  return cgroups.mode !== "hybrid" || version === 1;
}

/** Nothing there is success. */
export function removeBundle(node: SandboxNode, podId: string, containerId: string): void {
  rmSync(bundleDirectory(node, podId, containerId), { recursive: true, force: true });
}

function refuseWhatItCannot(spec: OciSpec, runtime: OciRuntime): void {
  const recursive = spec.mounts.find(({ options }) => options.includes("rro"));
  if (recursive !== undefined && !runtime.recursiveReadonlyMounts) {
    throw new InvalidArgumentError(
      `config.mounts: the mount with container_path ${recursive.destination} cannot be recursive_read_only: ` +
        `the runtime "${runtime.name}" does not say that it can do that`,
    );
  }
}

function sharingOf(spec: OciSpec): PidSharing {
  const sharing = spec.annotations?.[pidSharingAnnotation];
  if (sharing === "container" || sharing === "pod" || sharing === "target" || sharing === "host") return sharing;
  throw new InternalError(`the spec says ${sharing} of its PID namespace`);
}

function podNamespaces(pod: Pod): ("network" | "ipc" | "uts")[] {
  const options = pod.config.linux?.security_context?.namespace_options;
  const ownNetwork = options?.network !== NamespaceMode.NODE;
  return [
    ...(ownNetwork ? (["network", "uts"] as const) : []),
    ...(options?.ipc !== NamespaceMode.NODE ? (["ipc"] as const) : []),
  ];
}
