/** Seccomp profiles compiled to what the kernel takes, once for each distinct profile. */
import { createHash } from "node:crypto";
import { isSystemError, native } from "../native/binding.js";
import type { ContainerConfig } from "./container.js";
import { InvalidArgumentError } from "./errors.js";
import { defaultSeccompProfile } from "./spec/default-seccomp-profile.js";
import type { LinuxSeccomp, OciSpec } from "./spec/oci.js";
import { seccompChoice } from "./spec/seccomp.js";

const noFilter = new Uint8Array();
const maxCached = 64;
const byHash = new Map<string, Uint8Array>();
/** a container's profile stays the same object for all its execs, and the default one for most containers */
const byProfile = new WeakMap<LinuxSeccomp, Uint8Array>();

/** The filter of a container and its execs, an array of struct sock_filter; empty: unconfined. */
export function seccompFilter(spec: OciSpec): Uint8Array {
  const { seccomp } = spec.linux;
  if (seccomp === undefined) return noFilter;
  const cached = byProfile.get(seccomp);
  if (cached !== undefined) return cached;
  const isStored = seccomp.syscalls === undefined;
  const filter = compiled(isStored ? defaultSeccompProfile(spec.process.capabilities.bounding, process.arch) : seccomp);
  byProfile.set(seccomp, filter);
  return filter;
}

/** The spec as it is stored: the default profile's rules, most of its size, are made again from the capabilities. */
export function storedSpec(spec: OciSpec, config: ContainerConfig): OciSpec {
  const { seccomp } = spec.linux;
  if (seccomp === undefined || seccompChoice(config.linux?.security_context).kind !== "default") return spec;
  const { syscalls: _, ...rest } = seccomp;
  return { ...spec, linux: { ...spec.linux, seccomp: rest } };
}

/** The spec as it was before it was stored, with all rules of its seccomp profile. */
export function completeSpec(spec: OciSpec): OciSpec {
  const { seccomp } = spec.linux;
  if (seccomp === undefined || seccomp.syscalls !== undefined) return spec;
  const profile = defaultSeccompProfile(spec.process.capabilities.bounding, process.arch);
  return { ...spec, linux: { ...spec.linux, seccomp: profile } };
}

/** InvalidArgumentError: the profile of a file has a part that no filter can be made of. */
function compile(profile: LinuxSeccomp): Uint8Array {
  try {
    return native.compileSeccomp(profile);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const { subject, message } = error;
    throw new InvalidArgumentError(
      `config.linux.security_context.seccomp: the profile's ${subject} cannot be compiled: ${message}`,
      { cause: error },
    );
  }
}

function compiled(profile: LinuxSeccomp): Uint8Array {
  const hash = createHash("sha256").update(JSON.stringify(profile)).digest("base64");
  const found = byHash.get(hash);
  if (found !== undefined) return found;
  const filter = compile(profile);
  const [oldest] = byHash.keys();
  if (byHash.size >= maxCached && oldest !== undefined) byHash.delete(oldest);
  byHash.set(hash, filter);
  return filter;
}
