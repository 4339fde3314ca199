import { runtime } from "../../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "../errors.js";

const { ProfileType } = runtime.v1.SecurityProfile;

const context = "config.linux.security_context";

/** `field`: where the request asks for it. Unset: the default profile where there is one, and no complaint otherwise. */
export type ApparmorChoice =
  | { kind: "unset" }
  | { kind: "unconfined" }
  | { kind: "default"; field: string }
  | { kind: "localhost"; field: string; profile: string };

/** A privileged container is unconfined unless it names a profile. The new field counts more than the deprecated one. */
export function apparmorChoice(security: runtime.v1.ILinuxContainerSecurityContext | null | undefined): ApparmorChoice {
  const choice = askedFor(security);
  const isDefault = choice.kind === "default" || choice.kind === "unset";
  return isDefault && security?.privileged ? { kind: "unconfined" } : choice;
}

function askedFor(security: runtime.v1.ILinuxContainerSecurityContext | null | undefined): ApparmorChoice {
  const profile = security?.apparmor;
  if (!profile) return deprecatedChoice(security?.apparmor_profile ?? "");
  const field = `${context}.apparmor`;
  const type = profile.profile_type ?? ProfileType.RuntimeDefault;
  if (type !== ProfileType.Localhost && profile.localhost_ref) {
    throw new InvalidArgumentError(`${field}.localhost_ref: it goes with profile_type Localhost alone`);
  }
  switch (type) {
    case ProfileType.RuntimeDefault:
      return { kind: "default", field };
    case ProfileType.Unconfined:
      return { kind: "unconfined" };
    case ProfileType.Localhost:
      return localhost(profile.localhost_ref ?? "", `${field}.localhost_ref`);
    default:
      throw new InvalidArgumentError(`${field}.profile_type: ${type} is no ProfileType`);
  }
}

function deprecatedChoice(text: string): ApparmorChoice {
  const field = `${context}.apparmor_profile`;
  if (text === "") return { kind: "unset" };
  if (text === "unconfined") return { kind: "unconfined" };
  if (text === "runtime/default") return { kind: "default", field };
  if (text.startsWith(localhostPrefix) && text !== localhostPrefix) return localhost(text, field);
  throw new InvalidArgumentError(`${field}: ${JSON.stringify(text)} is no profile`);
}

/** As the deprecated field writes it; some callers put it before the name in the new field, too. */
const localhostPrefix = "localhost/";

function localhost(text: string, field: string): ApparmorChoice {
  const profile = text.startsWith(localhostPrefix) ? text.slice(localhostPrefix.length) : text;
  if (profile === "") throw new InvalidArgumentError(`${field}: Localhost needs a profile's name`);
  // the kernel takes what follows a NUL or a line's end for something else
  if (/\p{Cc}/u.test(profile)) {
    throw new InvalidArgumentError(`${field}: ${JSON.stringify(profile)} is no profile's name`);
  }
  return { kind: "localhost", field, profile };
}
