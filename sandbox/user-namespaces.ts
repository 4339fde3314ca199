/** User namespaces as descriptors, and what of a pod's the kernel must be asked for. */

import type { IdMaps, KernelFeatures } from "../native/binding.js";
import { native } from "../native/binding.js";
import { FailedPreconditionError } from "./errors.js";
import type { Pod, PodSandboxConfig } from "./pod.js";
import type { LinuxIdMapping } from "./spec/oci.js";
import { podUserNamespace, type UserNamespace } from "./spec/user-namespace.js";

/** Whether pods can have a user namespace: without idmapped layers and tmpfs every image would have to be copied. */
export function supportsUserNamespaces(features: KernelFeatures): boolean {
  return features.userNamespaces && features.idmappedTmpfs;
}

/** FailedPreconditionError: the pod asks for a user namespace, and this kernel cannot map the ids of file systems. */
export function checkUserNamespaceSupport(config: PodSandboxConfig, features: KernelFeatures): void {
  if (podUserNamespace(config) === undefined || supportsUserNamespaces(features)) return;
  throw new FailedPreconditionError(
    `config.linux.security_context.namespace_options.userns_options: user namespaces need idmapped mounts of overlay and tmpfs, which Linux ${features.release} does not have (6.3 does)`,
  );
}

/** In the addon's words. */
export function toIdMaps({ uids, gids }: UserNamespace): IdMaps {
  const toMapping = ({ containerID, hostID, size }: LinuxIdMapping) => ({
    containerId: containerID,
    hostId: hostID,
    length: size,
  });
  return { uids: toMapping(uids), gids: toMapping(gids) };
}

/** User namespaces by their mappings, each made or opened once, for as long as mounts are made with them. */
export interface OpenUserNamespaces {
  descriptorFor(mappings: UserNamespace): Promise<number>;
  close(): void;
}

/** The pod's own serves all mounts that have its mappings; others get a namespace that no process is in. */
export function openUserNamespaces(pod: Pod): OpenUserNamespaces {
  const opened = new Map<string, Promise<number>>();
  const ofPod = JSON.stringify(podUserNamespace(pod.config));
  const open = async (mappings: UserNamespace): Promise<number> =>
    JSON.stringify(mappings) === ofPod
      ? native.openOwningUserNamespace(pod.record.netnsPath)
      : native.makeUserNamespace(toIdMaps(mappings));
  return {
    descriptorFor(mappings) {
      const key = JSON.stringify(mappings);
      const descriptor = opened.get(key) ?? open(mappings);
      opened.set(key, descriptor);
      return descriptor;
    },
    close() {
      for (const descriptor of opened.values()) {
        descriptor.then(native.closeDescriptor, () => undefined);
      }
      opened.clear();
    },
  };
}
