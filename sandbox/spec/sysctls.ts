import { runtime } from "../../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "../errors.js";
import type { PodSandboxConfig } from "../pod.js";
import { podUserNamespace, toHostId, type UserNamespace } from "./user-namespace.js";

const { NamespaceMode } = runtime.v1;

const namePattern = /^[a-zA-Z0-9._/-]+$/;
/** Lists of numbers and words; nothing that could begin another setting. */
const valuePattern = /^[a-zA-Z0-9 \t._:,/-]*$/;
const maxValueBytes = 4096;
const pingGroups = "net.ipv4.ping_group_range";
/** the largest that the kernel takes there */
const lastPingGroup = 0x7fff_ffff;

/**
 * The sysctls of a pod: name in dots ("net.ipv4.conf.eth0/1.arp": a slash stands for a dot within a name) to value. A pod
 * with its own network lets everybody bind every port and ping, unless the request says otherwise. Only what belongs to a
 * namespace of the pod's own can be set.
 */
export function podSysctls(config: PodSandboxConfig): Record<string, string> {
  const namespaces = config.linux?.security_context?.namespace_options;
  const hostNetwork = namespaces?.network === NamespaceMode.NODE;
  const users = podUserNamespace(config);
  const hostIpc = namespaces?.ipc === NamespaceMode.NODE;
  const sysctls: Record<string, string> = hostNetwork
    ? {}
    : { "net.ipv4.ip_unprivileged_port_start": "0", [pingGroups]: allPingGroups(users) };
  for (const [key, value] of Object.entries(config.linux?.sysctls ?? {})) {
    const field = `config.linux.sysctls[${JSON.stringify(key)}]`;
    const name = inDots(key, field);
    if (Buffer.byteLength(value) > maxValueBytes || !valuePattern.test(value)) {
      throw new InvalidArgumentError(`${field}: ${JSON.stringify(value.slice(0, 80))} is not a value of a sysctl`);
    }
    const namespace = namespaceOf(name);
    if (namespace === undefined) {
      throw new InvalidArgumentError(`${field}: it is the host's and not a namespace's, so that no pod can set it`);
    }
    if (namespace === "network" ? hostNetwork : hostIpc) {
      throw new InvalidArgumentError(`${field}: the pod uses the host's ${namespace} namespace`);
    }
    sysctls[name] = name === pingGroups && users !== undefined ? pingGroupsOnHost(value, users, field) : value;
  }
  return sysctls;
}

/** The groups whose members may ping: every one of the pod's. */
function allPingGroups(users: UserNamespace | undefined): string {
  if (users === undefined) return `0 ${lastPingGroup}`;
  const { hostID, size } = users.gids;
  const last = Math.min(hostID + size - 1, lastPingGroup);
  // the kernel's own word for nobody
  return hostID > last ? "1 0" : `${hostID} ${last}`;
}

/** The monitor writes with the host's ids, the request speaks of the pod's. */
function pingGroupsOnHost(value: string, { gids }: UserNamespace, field: string): string {
  const [low = Number.NaN, high = Number.NaN, ...more] = value
    .trim()
    .split(/[ \t]+/)
    .map(Number);
  // nobody, or something that the kernel has an answer to
  if (more.length > 0 || !Number.isInteger(low) || !Number.isInteger(high) || high < low) return value;
  const range = [low, high].map((id) => toHostId(gids, id));
  if (range.some((id) => id === undefined || id > lastPingGroup)) {
    throw new InvalidArgumentError(`${field}: ${low} to ${high} are not all groups of the pod's user namespace`);
  }
  return range.join(" ");
}

/** sysctl(8)'s rule: when the first separator is a slash, slashes separate and dots are part of names. */
function inDots(key: string, field: string): string {
  if (!namePattern.test(key)) throw new InvalidArgumentError(`${field}: it is not a name of a sysctl`);
  const bySlash = /[./]/.exec(key)?.[0] === "/";
  const name = bySlash ? key.replace(/[./]/g, (separator) => (separator === "/" ? "." : "/")) : key;
  if (name.split(".").some((part) => /^\/*$/.test(part))) {
    throw new InvalidArgumentError(`${field}: it is not a name of a sysctl`);
  }
  return name;
}

function namespaceOf(name: string): "network" | "ipc" | undefined {
  if (name.startsWith("net.")) return "network";
  if (/^(kernel\.(shm|msg)[a-z_]*|kernel\.(sem|sem_next_id|auto_msgmni)|fs\.mqueue\.[a-z_]+)$/.test(name)) return "ipc";
  return undefined;
}
