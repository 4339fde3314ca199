/** CRI configuration + image configuration → OCI runtime spec. Pure: what must be read from the host comes in. */
import { runtime } from "../../cri-proto/generated/runtime.js";
import type { Hierarchy } from "../cgroup/manager.js";
import type { ContainerConfig } from "../container.js";
import { InvalidArgumentError } from "../errors.js";
import type { ResolvedUser } from "../identity.js";
import type { OciImageConfig } from "../image-config.js";
import type { PodSandboxConfig } from "../pod.js";
import { capabilities } from "./capabilities.js";
import { devices, type HostDevice } from "./devices.js";
import { environment } from "./environment.js";
import { maskedPaths } from "./masked-paths.js";
import { mounts, type PodFilePaths } from "./mounts.js";
import { checkPodNamespaces, namespaces, pidSharing, pidSharingAnnotation } from "./namespaces.js";
import type { LinuxBlockIo, LinuxIntelRdt, OciSpec, PosixRlimit } from "./oci.js";
import { processArgs } from "./process-args.js";
import { allowedOomScoreAdj, linuxResources, oomScoreAdj } from "./resources.js";
import { seccomp, seccompChoice } from "./seccomp.js";
import type { SelinuxLabels } from "./selinux.js";
import { checkContainerUserNamespace, checkUserIsMapped, podUserNamespace } from "./user-namespace.js";
import { workingDirectory } from "./working-directory.js";

const { NamespaceMode } = runtime.v1;

/** What of the host decides about a spec. */
export interface SpecHost {
  /** the agent's own: bit n is capability number n */
  capabilities: bigint;
  cgroup: { mode: "v1" | "hybrid" | "v2"; hierarchies: readonly Hierarchy[] };
  /** Node's name: "x64", "arm64" */
  arch: string;
  /** "6.1.0-18-amd64" */
  kernelRelease: string;
  hostname: string;
  /** the agent's own; without CAP_SYS_RESOURCE nobody below it gets a lower one */
  oomScoreAdj: number;
  /** what every container's program begins with, of the configuration; others are the agent's own */
  rlimits: readonly PosixRlimit[];
}

/** What a request names on the host and has to be read there first (sandbox/host-files.ts). */
export interface HostFiles {
  devices: HostDevice[];
  /** the text of the Localhost seccomp profile; null: none is asked for */
  seccompProfile: string | null;
  /** a loaded AppArmor profile; null: unconfined */
  apparmorProfile: string | null;
}

export interface SpecInput {
  containerId: string;
  podId: string;
  config: ContainerConfig;
  podConfig: PodSandboxConfig;
  /** its request says that the pod runs privileged containers by now: a debug container may be one where none was */
  podRunsPrivileged?: boolean;
  image: OciImageConfig;
  user: ResolvedUser;
  host: SpecHost;
  hostFiles: HostFiles;
  /** by the classes that its annotations name */
  classes?: { blockIO?: LinuxBlockIo; intelRdt?: LinuxIntelRdt };
  /** absent: SELinux is off, or labels nothing here */
  labels?: SelinuxLabels | undefined;
  podFiles: PodFilePaths;
  cgroupPath: string;
}

const resourcesField = "config.linux.resources";

/** The spec of a container. InvalidArgumentError names the field that cannot be as it is. */
export function buildSpec(input: SpecInput): OciSpec {
  const { config, podConfig, host, user } = input;
  const image = input.image.config;
  const context = config.linux?.security_context;
  const privileged = context?.privileged ?? false;
  const ofPod = podConfig.linux?.security_context?.namespace_options;
  const hostNetwork = ofPod?.network === NamespaceMode.NODE;

  checkRequest(input);
  checkPodNamespaces(config, podConfig);
  checkContainerUserNamespace(config, podConfig);
  const users = podUserNamespace(podConfig);
  checkUserIsMapped(user, users);
  const sharing = pidSharing(config, podConfig);
  const sets = capabilities(context?.capabilities, { privileged, uid: user.uid, hostMask: host.capabilities });
  const containerMounts = mounts({
    config,
    podFiles: input.podFiles,
    privileged,
    readonlyRootfs: context?.readonly_rootfs ?? false,
    hostIpc: ofPod?.ipc === NamespaceMode.NODE,
    users,
  });
  const devIsMounted = containerMounts.some(({ destination, type }) => destination === "/dev" && type === "bind");
  const { nodes, rules } = devices(input.hostFiles.devices, {
    privileged,
    devIsMounted,
    ownUserNamespace: users !== undefined,
  });
  const hidden = maskedPaths(context, { privileged, ownUserNamespace: users !== undefined });
  const filter = seccomp(seccompChoice(context), {
    bounding: sets.bounding,
    arch: host.arch,
    kernelRelease: host.kernelRelease,
    localhostProfile: input.hostFiles.seccompProfile,
  });
  // a pod without a UTS namespace or a name of its own has the host's
  const hostname = (!hostNetwork && podConfig.hostname) || host.hostname;

  return {
    ociVersion: "1.2.0",
    process: {
      terminal: config.tty ?? false,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
      args: processArgs(config, image),
      env: environment(config, image, { hostname, home: user.home }),
      cwd: workingDirectory(config, image),
      capabilities: sets,
      ...(host.rlimits.length > 0 && { rlimits: [...host.rlimits] }),
      noNewPrivileges: context?.no_new_privs ?? false,
      oomScoreAdj: allowedOomScoreAdj(oomScoreAdj(config.linux?.resources, resourcesField), host),
      ...(input.hostFiles.apparmorProfile !== null && { apparmorProfile: input.hostFiles.apparmorProfile }),
      ...(input.labels !== undefined && { selinuxLabel: input.labels.process }),
    },
    root: { path: "rootfs", readonly: context?.readonly_rootfs ?? false },
    mounts: containerMounts,
    annotations: { "berth.pod": input.podId, "berth.container": input.containerId, [pidSharingAnnotation]: sharing },
    linux: {
      namespaces: namespaces(sharing, users),
      ...(users !== undefined && { uidMappings: [users.uids], gidMappings: [users.gids] }),
      devices: nodes,
      cgroupsPath: input.cgroupPath,
      resources: {
        devices: rules,
        ...linuxResources(config.linux?.resources, { field: resourcesField, cgroupMode: host.cgroup.mode }),
        ...(input.classes?.blockIO !== undefined && { blockIO: input.classes.blockIO }),
      },
      ...(filter !== undefined && { seccomp: filter }),
      maskedPaths: hidden.masked,
      readonlyPaths: hidden.readonly,
      ...(input.labels?.mount !== undefined && { mountLabel: input.labels.mount }),
      ...(input.classes?.intelRdt !== undefined && { intelRdt: input.classes.intelRdt }),
    },
  };
}

/** What the pod does not allow. */
function checkRequest({ config, podConfig, podRunsPrivileged }: SpecInput): void {
  const allowed = podRunsPrivileged || podConfig.linux?.security_context?.privileged;
  if (config.linux?.security_context?.privileged && !allowed) {
    throw new InvalidArgumentError(
      "config.linux.security_context.privileged: the pod sandbox was not asked to run privileged containers",
    );
  }
}
