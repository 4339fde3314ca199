import { runtime } from "../../cri-proto/generated/runtime.js";
import type { ContainerConfig } from "../container.js";
import { InvalidArgumentError, UnimplementedError } from "../errors.js";
import type { PodSandboxConfig } from "../pod.js";
import type { LinuxNamespace } from "./oci.js";
import type { UserNamespace } from "./user-namespace.js";

const { NamespaceMode } = runtime.v1;

const field = "config.linux.security_context.namespace_options";

/** Whose processes a container sees: its own, the pod's, another container's of the pod, or the host's. */
export type PidSharing = "container" | "pod" | "target" | "host";

/**
 * How a spec says "pod" and "target": the namespaces have no path until the pod's monitor has made or found them. A
 * container's annotations of the request never get into a spec.
 */
export const pidSharingAnnotation = "berth.pid-namespace";

/** What the request asks of the container's PID namespace. The pod's mode decides where the container says POD. */
export function pidSharing(config: ContainerConfig, podConfig: PodSandboxConfig): PidSharing {
  const options = config.linux?.security_context?.namespace_options;
  const podIsHost = podConfig.linux?.security_context?.namespace_options?.pid === NamespaceMode.NODE;
  switch (options?.pid ?? NamespaceMode.POD) {
    case NamespaceMode.CONTAINER:
      return "container";
    case NamespaceMode.POD:
      return podIsHost ? "host" : "pod";
    case NamespaceMode.NODE:
      if (!podIsHost) {
        throw new InvalidArgumentError(`${field}.pid: NODE is for containers of pods whose own pid mode is NODE`);
      }
      return "host";
    case NamespaceMode.TARGET:
      if (!options?.target_id) throw new InvalidArgumentError(`${field}.target_id: TARGET needs a container's id`);
      return "target";
    default:
      throw new InvalidArgumentError(`${field}.pid: ${options?.pid} is no NamespaceMode`);
  }
}

/** Network and IPC are the pod's: a container can only say so. */
export function checkPodNamespaces(config: ContainerConfig, podConfig: PodSandboxConfig): void {
  const options = config.linux?.security_context?.namespace_options;
  const ofPod = podConfig.linux?.security_context?.namespace_options;
  for (const name of ["network", "ipc"] as const) {
    const mode = options?.[name] ?? NamespaceMode.POD;
    if (mode === NamespaceMode.POD) continue;
    if (mode !== NamespaceMode.NODE) {
      throw new UnimplementedError(
        `${field}.${name}: a container always has its pod's, not ${NamespaceMode[mode] ?? mode}`,
      );
    }
    if (ofPod?.[name] !== NamespaceMode.NODE) {
      throw new InvalidArgumentError(`${field}.${name}: NODE is for containers of pods whose own ${name} mode is NODE`);
    }
  }
}

/**
 * The namespaces that are the container's own. One that is not listed is inherited from the runtime, which for network,
 * IPC and UTS is the pod's monitor; a user namespace is made once for the pod, and joined.
 */
export function namespaces(sharing: PidSharing, users: UserNamespace | undefined): LinuxNamespace[] {
  const own: LinuxNamespace[] = [{ type: "mount" }, { type: "cgroup" }];
  if (users !== undefined) own.push({ type: "user" });
  return sharing === "container" ? [{ type: "pid" }, ...own] : own;
}
