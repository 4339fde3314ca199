/** AppArmor profiles and SELinux labels. A host without the module refuses what names one, and ignores defaults. */
import { runtime } from "../../cri-proto/generated/runtime.js";
import { FailedPreconditionError, InvalidArgumentError } from "../errors.js";

const { ProfileType } = runtime.v1.SecurityProfile;

const field = "config.linux.security_context";

type AppArmorContext = Pick<runtime.v1.ILinuxContainerSecurityContext, "apparmor" | "apparmor_profile">;

/** The profile's name; undefined: none. RuntimeDefault is none: Berth loads no profile of its own. */
export function apparmorProfile(
  context: runtime.v1.ILinuxContainerSecurityContext | null | undefined,
  host: { apparmor: boolean },
): string | undefined {
  if (context?.privileged) return undefined;
  const { name, where } = askedProfile(context);
  if (name === "") return undefined;
  if (!host.apparmor) throw new FailedPreconditionError(`${where}: this host's kernel has no AppArmor`);
  return name;
}

/** InvalidArgumentError: what is asked for is no profile. */
export function askedProfile(context: AppArmorContext | null | undefined): { name: string; where: string } {
  const profile = context?.apparmor;
  if (profile) {
    const where = `${field}.apparmor.localhost_ref`;
    if (profile.profile_type && ProfileType[profile.profile_type] === undefined) {
      throw new InvalidArgumentError(`${field}.apparmor.profile_type: ${profile.profile_type} is no ProfileType`);
    }
    const localhost = profile.profile_type === ProfileType.Localhost;
    if (localhost && !profile.localhost_ref)
      throw new InvalidArgumentError(`${where}: Localhost needs a profile's name`);
    if (!localhost && profile.localhost_ref) {
      throw new InvalidArgumentError(`${where}: it goes with profile_type Localhost alone`);
    }
    return { name: localhost ? (profile.localhost_ref ?? "") : "", where };
  }
  const where = `${field}.apparmor_profile`;
  const text = context?.apparmor_profile ?? "";
  if (text === "" || text === "runtime/default" || text === "unconfined") return { name: "", where };
  const name = text.startsWith("localhost/") ? text.slice("localhost/".length) : "";
  if (name === "") throw new InvalidArgumentError(`${where}: ${JSON.stringify(text)} is no profile`);
  return { name, where };
}

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
