import type { runtime } from "../../cri-proto/generated/runtime.js";
import { FailedPreconditionError, InvalidArgumentError } from "../errors.js";

const field = "config.linux.security_context";

/** user:role:type:level; undefined: none. */
export function selinuxLabel(
  context: runtime.v1.ILinuxContainerSecurityContext | null | undefined,
  host: { selinux: boolean },
): string | undefined {
  const options = context?.selinux_options;
  if (context?.privileged || !options) return undefined;
  const { user, role, type, level } = options;
  if (!user && !role && !type && !level) return undefined;
  const where = `${field}.selinux_options`;
  if (!host.selinux) throw new FailedPreconditionError(`${where}: this host's kernel has no SELinux`);
  const label = [user || "system_u", role || "system_r", type || "container_t", level || "s0"].join(":");
  if (!/^[a-zA-Z0-9_.:,-]+$/.test(label))
    throw new InvalidArgumentError(`${where}: ${JSON.stringify(label)} is no label`);
  return label;
}
