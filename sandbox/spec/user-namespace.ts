/** Whose ids a pod's processes have: the host's, or those of a user namespace of the pod's own. */
import { runtime } from "../../cri-proto/generated/runtime.js";
import type { ContainerConfig } from "../container.js";
import { InvalidArgumentError } from "../errors.js";
import type { ResolvedUser } from "../identity.js";
import type { PodSandboxConfig } from "../pod.js";
import type { LinuxIdMapping } from "./oci.js";

const { NamespaceMode } = runtime.v1;

const podField = "config.linux.security_context.namespace_options";

/** The number of the last id; the one after it means "none" to the kernel. */
const lastId = 0xffff_fffe;

/** One run of ids each: root is among them. */
export interface UserNamespace {
  uids: LinuxIdMapping;
  gids: LinuxIdMapping;
}

/**
 * The pod's own user namespace; undefined: it has the host's. InvalidArgumentError: a mode or mappings that cannot be, or
 * another namespace of the host's, which the pod's root could do nothing in.
 */
export function podUserNamespace(config: PodSandboxConfig): UserNamespace | undefined {
  const options = config.linux?.security_context?.namespace_options;
  const asked = parse(options?.userns_options, `${podField}.userns_options`);
  if (asked === undefined) return undefined;
  for (const name of ["network", "pid", "ipc"] as const) {
    if ((options?.[name] ?? NamespaceMode.POD) === NamespaceMode.NODE) {
      throw new InvalidArgumentError(`${podField}.${name}: a pod with a user namespace cannot have the host's, NODE`);
    }
  }
  return asked;
}

/** A container is in its pod's user namespace: it can only say the same, or nothing. */
export function checkContainerUserNamespace(config: ContainerConfig, podConfig: PodSandboxConfig): void {
  const options = config.linux?.security_context?.namespace_options?.userns_options;
  if (!options) return;
  const field = `${podField}.userns_options`;
  const own = parse(options, field);
  const ofPod = podUserNamespace(podConfig);
  if (JSON.stringify(own) === JSON.stringify(ofPod)) return;
  throw new InvalidArgumentError(
    `${field}: a container has its pod's user namespace, ${describe(ofPod)}, and not ${describe(own)}`,
  );
}

/** InvalidArgumentError: the user or a group has no number in the pod's user namespace. */
export function checkUserIsMapped(user: ResolvedUser, namespace: UserNamespace | undefined): void {
  if (namespace === undefined) return;
  const { uids, gids } = namespace;
  const refuse = (what: string, id: number, { containerID, size }: LinuxIdMapping): never => {
    throw new InvalidArgumentError(
      `config.linux.security_context: the ${what} ${id} is not among the ids ${containerID} to ${containerID + size - 1} of the pod's user namespace`,
    );
  };
  if (toHostId(uids, user.uid) === undefined) refuse("user", user.uid, uids);
  for (const gid of [user.gid, ...user.additionalGids]) {
    if (toHostId(gids, gid) === undefined) refuse("group", gid, gids);
  }
}

/** The host's number of an id inside; undefined: it has none. */
export function toHostId({ containerID, hostID, size }: LinuxIdMapping, id: number): number | undefined {
  return id >= containerID && id - containerID < size ? hostID + (id - containerID) : undefined;
}

/** The mappings of a mount, undefined when it has none. They come together, and are one run each. */
export function mountIdMappings(mount: runtime.v1.IMount, field: string): UserNamespace | undefined {
  const { uidMappings, gidMappings } = mount;
  if (!uidMappings?.length && !gidMappings?.length) return undefined;
  return { uids: oneRange(uidMappings, `${field}.uidMappings`), gids: oneRange(gidMappings, `${field}.gidMappings`) };
}

function parse(options: runtime.v1.IUserNamespace | null | undefined, field: string): UserNamespace | undefined {
  if (!options) return undefined;
  const mode = options.mode ?? NamespaceMode.POD;
  switch (mode) {
    case NamespaceMode.NODE:
      for (const name of ["uids", "gids"] as const) {
        if (options[name]?.length) throw new InvalidArgumentError(`${field}.${name}: the mode NODE maps no ids`);
      }
      return undefined;
    case NamespaceMode.POD:
      return {
        uids: withRoot(oneRange(options.uids, `${field}.uids`), `${field}.uids`),
        gids: withRoot(oneRange(options.gids, `${field}.gids`), `${field}.gids`),
      };
    default:
      throw new InvalidArgumentError(
        `${field}.mode: a user namespace is the pod's (POD) or the host's (NODE), not ${NamespaceMode[mode] ?? mode}`,
      );
  }
}

function oneRange(mappings: readonly runtime.v1.IIDMapping[] | null | undefined, field: string): LinuxIdMapping {
  const [mapping, ...more] = mappings ?? [];
  if (mapping === undefined) throw new InvalidArgumentError(`${field}: there is no mapping, and one is needed`);
  if (more.length > 0) {
    throw new InvalidArgumentError(`${field}: there are ${more.length + 1} mappings; only one is supported`);
  }
  const range = { containerID: mapping.container_id ?? 0, hostID: mapping.host_id ?? 0, size: mapping.length ?? 0 };
  if (range.size === 0) throw new InvalidArgumentError(`${field}[0].length: it must be 1 at least`);
  for (const [name, first] of [
    ["container_id", range.containerID],
    ["host_id", range.hostID],
  ] as const) {
    if (first + range.size - 1 > lastId) {
      throw new InvalidArgumentError(`${field}[0].${name}: ${range.size} ids from ${first} on go beyond ${lastId}`);
    }
  }
  return range;
}

function withRoot(range: LinuxIdMapping, field: string): LinuxIdMapping {
  if (range.containerID === 0) return range;
  throw new InvalidArgumentError(
    `${field}[0].container_id: the ids begin at ${range.containerID}, so that the container's root, 0, is not mapped`,
  );
}

function describe(namespace: UserNamespace | undefined): string {
  if (namespace === undefined) return "the host's";
  const range = ({ containerID, hostID, size }: LinuxIdMapping) => `${containerID}:${hostID}:${size}`;
  return `uids ${range(namespace.uids)} gids ${range(namespace.gids)}`;
}
