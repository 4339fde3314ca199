/** Which field of a request a step of the monitor's was about: its errors name it, as those of the checks before it do. */
import { constants } from "node:os";
import { posix } from "node:path";
import type { ContainerConfig } from "./container.js";
import type { PodSandboxConfig } from "./pod.js";

/** undefined: none of the request's, as of what Berth or the image brings */
export type FieldOfStep = (step: string, subject: string, errnoValue: number) => string | undefined;

const { E2BIG } = constants.errno;

const context = "config.linux.security_context";

/** What a step says of its subject has this many bytes at most (`Report::subject` in native/monitor/child_channel.h). */
const maxSubjectBytes = 511;

export function fieldsOfContainer(config: ContainerConfig): FieldOfStep {
  const { masked_paths, readonly_paths, seccomp } = config.linux?.security_context ?? {};
  const mounts = (config.mounts ?? []).map(({ container_path }) => container_path);
  const devices = (config.devices ?? []).map(({ container_path, host_path }) => container_path || host_path);
  const mount = (subject: string) => item("config.mounts", mounts, subject, ".container_path");
  const device = (subject: string) => item("config.devices", devices, subject, ".container_path");
  return (step, subject, errnoValue) => {
    switch (step) {
      case "mount":
      case "mount_setattr":
        return mount(subject);
      case "mknod":
      case "check":
        return device(subject) ?? mount(subject);
      case "mask":
        return item(`${context}.masked_paths`, masked_paths, subject);
      case "make read-only":
        return item(`${context}.readonly_paths`, readonly_paths, subject);
      case "make the working directory":
      case "enter the working directory":
        return config.working_dir ? "config.working_dir" : undefined;
      case "execve":
        if (errnoValue === E2BIG) return "config.args, config.envs";
        if (subject === config.command?.[0]) return "config.command";
        return subject === config.args?.[0] ? "config.args" : undefined;
      case "load the seccomp filter":
      case "go on under the seccomp filter":
        return `${context}.${seccomp ? "seccomp" : "seccomp_profile_path"}`;
      case "set the AppArmor profile":
        return `${context}.apparmor`;
      case "set the SELinux label":
        return `${context}.selinux_options`;
      case "open the log":
        return "config.log_path";
      case "open a terminal":
        return "config.tty";
      default:
        return undefined;
    }
  };
}

export const fieldsOfExec: FieldOfStep = (step) => (step === "execve" ? "cmd" : undefined);

export function fieldsOfPod(config: PodSandboxConfig): FieldOfStep {
  return (step, subject) => {
    if (step === "sethostname") return "config.hostname";
    if (step !== "set the sysctl") return undefined;
    // the monitor's words for it have other separators
    const inWords = (name: string) => name.split(/[./]/).join(" ");
    const name = Object.keys(config.linux?.sysctls ?? {}).find((key) => inWords(key) === inWords(subject));
    return name === undefined ? undefined : `config.linux.sysctls[${JSON.stringify(name)}]`;
  };
}

/** "config.mounts[3].container_path" of the last one with this path: of two at one place it is the one that counts. */
function item(
  field: string,
  paths: readonly (string | null | undefined)[] | null | undefined,
  subject: string,
  part = "",
): string | undefined {
  const isCut = Buffer.byteLength(subject) >= maxSubjectBytes;
  const index = (paths ?? []).findLastIndex((path) => {
    const normal = posix.normalize(path ?? "").replace(/(.)\/$/, "$1");
    return isCut ? normal.startsWith(subject) : normal === subject;
  });
  return index < 0 ? undefined : `${field}[${index}]${part}`;
}
