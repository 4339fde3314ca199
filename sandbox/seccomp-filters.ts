/** Seccomp profiles compiled to what the kernel takes, once for each distinct profile. */
import { createHash } from "node:crypto";
import { native } from "../native/binding.js";
import type { ContainerConfig } from "./container.js";
import { defaultSeccompProfile } from "./spec/default-seccomp-profile.js";
import type { LinuxSeccomp, LinuxSyscall, OciSpec } from "./spec/oci.js";
import { seccompChoice } from "./spec/seccomp.js";

const noFilter = new Uint8Array();
const maxCached = 64;
const byHash = new Map<string, Uint8Array>();
/** a container's spec stays the same object for all its execs */
const bySpec = new WeakMap<OciSpec, Uint8Array>();

/** System calls that libseccomp 2.5 has no names for. From number 424 on they are the same on every architecture. */
const newNumbers: Record<string, number> = {
  cachestat: 451,
  fchmodat2: 452,
  map_shadow_stack: 453,
  futex_wake: 454,
  futex_wait: 455,
  futex_requeue: 456,
  statmount: 457,
  listmount: 458,
  lsm_get_self_attr: 459,
  lsm_set_self_attr: 460,
  lsm_list_modules: 461,
  mseal: 462,
  setxattrat: 463,
  getxattrat: 464,
  listxattrat: 465,
  removexattrat: 466,
  open_tree_attr: 467,
  file_getattr: 468,
  file_setattr: 469,
};
/** Numbers that no kernel had when this was written. */
const unknownNumbers = Array.from({ length: 42 }, (_, index) => String(470 + index));

/** The filter of a container and its execs, an array of struct sock_filter; empty: unconfined. */
export function seccompFilter(spec: OciSpec): Uint8Array {
  const cached = bySpec.get(spec);
  if (cached !== undefined) return cached;
  const profile = wholeProfile(spec);
  const filter = profile === undefined ? noFilter : compiled(profile);
  bySpec.set(spec, filter);
  return filter;
}

/** The spec as it is stored: the default profile's rules, most of its size, are made again from the capabilities. */
export function storedSpec(spec: OciSpec, config: ContainerConfig): OciSpec {
  const { seccomp } = spec.linux;
  if (seccomp === undefined || seccompChoice(config.linux?.security_context).kind !== "default") return spec;
  const { syscalls: _, ...rest } = seccomp;
  return { ...spec, linux: { ...spec.linux, seccomp: rest } };
}

function wholeProfile(spec: OciSpec): LinuxSeccomp | undefined {
  const { seccomp } = spec.linux;
  if (seccomp === undefined || seccomp.syscalls !== undefined) return seccomp;
  return defaultSeccompProfile(spec.process.capabilities.bounding, process.arch);
}

function compiled(profile: LinuxSeccomp): Uint8Array {
  const hash = createHash("sha256").update(JSON.stringify(profile)).digest("base64");
  const found = byHash.get(hash);
  if (found !== undefined) return found;
  const filter = native.compileSeccomp({ ...profile, syscalls: forKernel(profile) });
  const [oldest] = byHash.keys();
  if (byHash.size >= maxCached && oldest !== undefined) byHash.delete(oldest);
  byHash.set(hash, filter);
  return filter;
}

/**
 * New calls by their numbers. Where a list says what is allowed, calls that came after it fail with ENOSYS, so that C
 * libraries fall back to an older one: EPERM would be an answer to them.
 */
function forKernel({ defaultAction, syscalls = [] }: LinuxSeccomp): LinuxSyscall[] {
  const numbered = syscalls.map((rule) => ({
    ...rule,
    names: rule.names.map((name) => String(newNumbers[name] ?? name)),
  }));
  return defaultAction === "SCMP_ACT_ERRNO"
    ? [...numbered, { names: unknownNumbers, action: "SCMP_ACT_ERRNO", errnoRet: 38 }]
    : numbered;
}
