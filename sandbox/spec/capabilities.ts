import type { runtime } from "../../cri-proto/generated/runtime.js";
import { FailedPreconditionError, InvalidArgumentError } from "../errors.js";
import type { LinuxCapabilities } from "./oci.js";

/** In the order of their numbers (linux/capability.h). */
const names = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_DAC_READ_SEARCH",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_LINUX_IMMUTABLE",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_BROADCAST",
  "CAP_NET_ADMIN",
  "CAP_NET_RAW",
  "CAP_IPC_LOCK",
  "CAP_IPC_OWNER",
  "CAP_SYS_MODULE",
  "CAP_SYS_RAWIO",
  "CAP_SYS_CHROOT",
  "CAP_SYS_PTRACE",
  "CAP_SYS_PACCT",
  "CAP_SYS_ADMIN",
  "CAP_SYS_BOOT",
  "CAP_SYS_NICE",
  "CAP_SYS_RESOURCE",
  "CAP_SYS_TIME",
  "CAP_SYS_TTY_CONFIG",
  "CAP_MKNOD",
  "CAP_LEASE",
  "CAP_AUDIT_WRITE",
  "CAP_AUDIT_CONTROL",
  "CAP_SETFCAP",
  "CAP_MAC_OVERRIDE",
  "CAP_MAC_ADMIN",
  "CAP_SYSLOG",
  "CAP_WAKE_ALARM",
  "CAP_BLOCK_SUSPEND",
  "CAP_AUDIT_READ",
  "CAP_PERFMON",
  "CAP_BPF",
  "CAP_CHECKPOINT_RESTORE",
] as const;

const numbers = new Map<string, bigint>(names.map((name, number) => [name, BigInt(number)]));

/** What a container has when nobody says anything: the fourteen that Docker and containerd give. */
const defaults = [
  "CAP_AUDIT_WRITE",
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_MKNOD",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_RAW",
  "CAP_SETFCAP",
  "CAP_SETGID",
  "CAP_SETPCAP",
  "CAP_SETUID",
  "CAP_SYS_CHROOT",
];

const field = "config.linux.security_context.capabilities";

/** CAP_SYS_RESOURCE's bit: without it hard limits and oom_score_adj only get worse. */
export const sysResourceBit = 1n << 24n;

/** A set of names as the kernel's mask: bit n is capability number n. */
export function capabilityMask(set: readonly string[]): bigint {
  return set.reduce((mask, name) => mask | (1n << (numbers.get(name) ?? 64n)), 0n) & 0xffff_ffff_ffff_ffffn;
}

/** The names in a mask, in the order of their numbers. */
export function capabilityNames(mask: bigint): string[] {
  return names.filter((_, number) => (mask >> BigInt(number)) & 1n);
}

/**
 * The container's sets. ALL is taken first, single names after it, so that `drop ALL, add CHOWN` leaves CHOWN; a drop
 * wins over an add of the same name. Inheritable holds what is ambient (the kernel asks for that) and nothing else.
 *
 * A process that is not root's loses everything but the ambient ones at execve, by the kernel's rules. They are taken
 * away before it, so that the execve itself and the change to the working directory happen with the user's own rights.
 */
export function capabilities(
  requested: runtime.v1.ICapability | null | undefined,
  { privileged, uid, hostMask }: { privileged: boolean; uid: number; hostMask: bigint },
): LinuxCapabilities {
  const add = parse(requested?.add_capabilities, `${field}.add_capabilities`, hostMask);
  const drop = parse(requested?.drop_capabilities, `${field}.drop_capabilities`, null);
  const addAmbient = parse(requested?.add_ambient_capabilities, `${field}.add_ambient_capabilities`, hostMask);

  const all = new Set<string>(capabilityNames(hostMask));
  let bounding: Set<string>;
  let ambient = new Set<string>();
  if (privileged) {
    bounding = all;
  } else {
    bounding = add.all || addAmbient.all ? new Set(all) : new Set(defaults.filter((name) => all.has(name)));
    if (drop.all) bounding = new Set();
    ambient = addAmbient.all && !drop.all ? new Set(all) : new Set(addAmbient.names);
    for (const name of [...add.names, ...ambient]) bounding.add(name);
    for (const name of drop.names) {
      bounding.delete(name);
      ambient.delete(name);
    }
  }
  const kept = uid === 0 ? bounding : ambient;
  return {
    bounding: inOrder(bounding),
    effective: inOrder(kept),
    inheritable: inOrder(ambient),
    permitted: inOrder(kept),
    ambient: inOrder(ambient),
  };
}

function inOrder(set: ReadonlySet<string>): string[] {
  return names.filter((name) => set.has(name));
}

/** `mustBeIn`: a name outside of the mask cannot be given. */
function parse(
  list: readonly string[] | null | undefined,
  where: string,
  mustBeIn: bigint | null,
): { all: boolean; names: string[] } {
  const found: string[] = [];
  let all = false;
  for (const entry of list ?? []) {
    const upper = entry.toUpperCase();
    if (upper === "ALL" || upper === "CAP_ALL") {
      all = true;
      continue;
    }
    const name = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
    const number = numbers.get(name);
    if (number === undefined) throw new InvalidArgumentError(`${where}: ${JSON.stringify(entry)} is no capability`);
    if (mustBeIn !== null && ((mustBeIn >> number) & 1n) === 0n) {
      throw new FailedPreconditionError(`${where}: the agent itself does not have ${name} on this host`);
    }
    found.push(name);
  }
  return { all, names: found };
}
