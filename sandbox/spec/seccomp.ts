import { runtime } from "../../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "../errors.js";
import { defaultSeccompProfile } from "./default-seccomp-profile.js";
import type { LinuxSeccomp } from "./oci.js";
import { absolutePath } from "./paths.js";
import { parseSeccompProfile } from "./seccomp-profile.js";

const { ProfileType } = runtime.v1.SecurityProfile;

const field = "config.linux.security_context";

export type SeccompChoice =
  | { kind: "unconfined" }
  | { kind: "default" }
  | { kind: "localhost"; path: string; field: string };

type SeccompContext = Pick<
  runtime.v1.ILinuxContainerSecurityContext,
  "privileged" | "seccomp" | "seccomp_profile_path"
>;

/**
 * The profile that a request asks for. The CRI says that no profile is an unconfined container; the kubelet always
 * names one. Privileged containers are not confined, whatever is asked.
 */
export function seccompChoice(context: SeccompContext | null | undefined): SeccompChoice {
  if (context?.privileged) return { kind: "unconfined" };
  const profile = context?.seccomp;
  if (!profile) return deprecatedChoice(context?.seccomp_profile_path ?? "");
  const type = profile.profile_type ?? ProfileType.RuntimeDefault;
  if (profile.localhost_ref && type !== ProfileType.Localhost) {
    throw new InvalidArgumentError(`${field}.seccomp.localhost_ref: it goes with profile_type Localhost alone`);
  }
  switch (type) {
    case ProfileType.RuntimeDefault:
      return { kind: "default" };
    case ProfileType.Unconfined:
      return { kind: "unconfined" };
    case ProfileType.Localhost:
      return localhost(profile.localhost_ref, `${field}.seccomp.localhost_ref`);
    default:
      throw new InvalidArgumentError(`${field}.seccomp.profile_type: ${type} is no ProfileType`);
  }
}

function deprecatedChoice(path: string): SeccompChoice {
  if (path === "" || path === "unconfined") return { kind: "unconfined" };
  if (path === "runtime/default" || path === "docker/default") return { kind: "default" };
  const own = `${field}.seccomp_profile_path`;
  if (path.startsWith("localhost/")) return localhost(path.slice("localhost/".length), own);
  throw new InvalidArgumentError(`${own}: ${JSON.stringify(path)} is no profile`);
}

function localhost(path: string | null | undefined, field: string): SeccompChoice {
  return { kind: "localhost", path: absolutePath(path, field), field };
}

/** What linux.seccomp becomes; undefined: unconfined. `localhostProfile` is the text of the chosen file. */
export function seccomp(
  choice: SeccompChoice,
  options: { bounding: readonly string[]; arch: string; kernelRelease: string; localhostProfile: string | null },
): LinuxSeccomp | undefined {
  switch (choice.kind) {
    case "unconfined":
      return undefined;
    case "default":
      return defaultSeccompProfile(options.bounding, options.arch);
    case "localhost":
      return parseSeccompProfile(options.localhostProfile ?? "", { ...options, ...choice });
    default:
      return choice satisfies never;
  }
}
