/** An OCI runtime spec, resolved to what the kernel is told: the monitor's Plan and Process. */
import { basename, posix } from "node:path";
import Long from "long";
import { berth } from "../cri-proto/generated/monitor.js";
import type { CgroupHandles, Hierarchy } from "./cgroup/manager.js";
import { InternalError, InvalidArgumentError } from "./errors.js";
import { parseMountOptions } from "./mount-options.js";
import type { LogLimits } from "./node.js";
import type { OpenMounts } from "./open-mounts.js";
import { textToBytes } from "./spec/byte-text.js";
import { capabilityMask } from "./spec/capabilities.js";
import { podShmSource } from "./spec/mounts.js";
import { pidSharingAnnotation } from "./spec/namespaces.js";
import type { LinuxDevice, LinuxSeccomp, Mount, OciSpec, Process } from "./spec/oci.js";

const { PidNamespace } = berth.monitor.v1;

type Plan = berth.monitor.v1.IPlan;
type PlanMount = berth.monitor.v1.IMount;
type PlanProcess = berth.monitor.v1.IProcess;

/** S_IF* of sys/stat.h */
const fileTypes: Record<LinuxDevice["type"], number> = { c: 0o020000, u: 0o020000, b: 0o060000, p: 0o010000 };
const everybody = 0o666;
/** of an image: each costs its container a few system calls */
const mostVolumes = 256;

/** SECCOMP_FILTER_FLAG_* of linux/seccomp.h. TSYNC means nothing to a process of one thread. */
const seccompFlags: Record<string, number> = {
  SECCOMP_FILTER_FLAG_LOG: 1 << 1,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 1 << 2,
};

/** RLIMIT_* of sys/resource.h */
const rlimits: Record<string, number> = {
  RLIMIT_CPU: 0,
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_STACK: 3,
  RLIMIT_CORE: 4,
  RLIMIT_RSS: 5,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_LOCKS: 10,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13,
  RLIMIT_RTPRIO: 14,
  RLIMIT_RTTIME: 15,
};

export interface LaunchPlanOptions {
  /** detached mount of the root file system */
  rootFd: number;
  mountFds: Pick<OpenMounts, "mounts">;
  cgroup: CgroupHandles;
  hierarchies: readonly Hierarchy[];
  /** absolute; empty: no log */
  logPath: string;
  logs: LogLimits;
  /** that the image promises (VOLUME), whether it has them or not */
  volumes: readonly string[];
  stdin: boolean;
  stdinOnce: boolean;
  /** empty: unconfined */
  seccompFilter: Uint8Array;
  /** absent, null: none that the monitor has to know of */
  hooks?: berth.monitor.v1.IHooks | null;
  /** the whole id of the TARGET container; empty when the spec shares with none */
  pidTarget: string;
}

export interface LaunchPlan {
  plan: Plan;
  /** what the plan's *_fd fields number, from 1; still the caller's */
  descriptors: number[];
}

/** The plan of a container. */
export function toLaunchPlan(spec: OciSpec, options: LaunchPlanOptions): LaunchPlan {
  const descriptors = [options.rootFd];
  const sources = new Map(options.mountFds.mounts.map((open) => [open.mount, open]));
  const readonlyPaths = [...spec.linux.readonlyPaths];
  const mounts = spec.mounts.flatMap((mount): PlanMount[] => {
    if (mount.type === "cgroup") return cgroupMounts(mount, options.hierarchies, readonlyPaths);
    if (mount.type !== "bind") return [fileSystemMount(mount, spec.linux.mountLabel)];
    const open = sources.get(mount);
    if (open === undefined) throw new InternalError(`the source of the mount on ${mount.destination} was not opened`);
    descriptors.push(open.fd);
    // its attributes and propagation are those of the descriptor
    return [{ destination: mount.destination, source_fd: descriptors.length, is_file: open.isFile }];
  });
  const { cgroup } = options;
  return {
    descriptors,
    plan: {
      process: toProcess(spec, { process: spec.process, seccompFilter: options.seccompFilter }),
      root_fd: 1,
      root_readonly: spec.root.readonly,
      directories: directoriesOf(options.volumes, spec),
      ...pidNamespace(spec, options.pidTarget),
      cgroup_namespace: spec.linux.namespaces.some(({ type }) => type === "cgroup"),
      mounts,
      devices: spec.linux.devices.map(toDevice),
      masked_paths: spec.linux.maskedPaths,
      readonly_paths: readonlyPaths,
      cgroup: {
        tasks_files: cgroup.tasksFiles,
        cgroup2_directory: cgroup.cgroup2Directory,
        oom_kill_file: cgroup.oomKillFile,
      },
      log: {
        path: options.logPath,
        max_line_bytes: options.logs.lineBytes,
        bytes_per_second: Long.fromNumber(options.logs.bytesPerSecond, true),
      },
      stdin: options.stdin,
      stdin_once: options.stdinOnce,
      hooks: options.hooks ?? null,
    },
  };
}

/** The image's volumes that no mount of the spec is at or above; a mount may be a file's. */
function directoriesOf(volumes: readonly string[], { mounts }: OciSpec): string[] {
  const paths = volumes
    .filter((path) => path.startsWith("/") && !path.includes("\0"))
    .map((path) => posix.normalize(path));
  const isMounted = (path: string) =>
    mounts.some(({ destination }) =>
      `${path}/`.startsWith(destination.endsWith("/") ? destination : `${destination}/`),
    );
  return [...new Set(paths)].filter((path) => !isMounted(path)).slice(0, mostVolumes);
}

/** A further process in a container: its user, environment, directory and restrictions are the first one's. */
export function toExecProcess(
  spec: OciSpec,
  { args, terminal, seccompFilter }: { args: string[]; terminal: boolean; seccompFilter: Uint8Array },
): PlanProcess {
  if (args.some((arg) => arg.includes("\0"))) throw new InvalidArgumentError("cmd: an argument holds a NUL byte");
  const hasTerm = spec.process.env.some((variable) => variable.startsWith("TERM="));
  const env = terminal && !hasTerm ? [...spec.process.env, "TERM=xterm"] : spec.process.env;
  return toProcess(spec, { process: { ...spec.process, args, terminal, env }, seccompFilter });
}

function toProcess(
  spec: OciSpec,
  { process, seccompFilter }: { process: Process; seccompFilter: Uint8Array },
): PlanProcess {
  const { user, capabilities, consoleSize } = process;
  return {
    args: process.args,
    env: process.env.map(textToBytes),
    cwd: process.cwd,
    uid: user.uid,
    gid: user.gid,
    additional_gids: user.additionalGids ?? [],
    umask: user.umask ?? 0,
    has_umask: user.umask !== undefined,
    capabilities: {
      bounding: toMask(capabilities.bounding),
      effective: toMask(capabilities.effective),
      inheritable: toMask(capabilities.inheritable),
      permitted: toMask(capabilities.permitted),
      ambient: toMask(capabilities.ambient),
    },
    no_new_privileges: process.noNewPrivileges,
    seccomp_filter: seccompFilter,
    seccomp_flags: toSeccompFlags(spec.linux.seccomp),
    terminal: process.terminal,
    terminal_columns: consoleSize?.width ?? 0,
    terminal_rows: consoleSize?.height ?? 0,
    has_oom_score_adj: process.oomScoreAdj !== undefined,
    oom_score_adj: process.oomScoreAdj ?? 0,
    rlimits: (process.rlimits ?? []).map(({ type, soft, hard }) => {
      const resource = rlimits[type];
      if (resource === undefined) throw new InvalidArgumentError(`process.rlimits: ${type} is no limit`);
      return { resource, soft: Long.fromNumber(soft, true), hard: Long.fromNumber(hard, true) };
    }),
    apparmor_profile: process.apparmorProfile ?? "",
    selinux_label: process.selinuxLabel ?? "",
  };
}

function toMask(names: readonly string[]): Long {
  return Long.fromString(capabilityMask(names).toString(), true);
}

function toSeccompFlags(seccomp: LinuxSeccomp | undefined): number {
  return (seccomp?.flags ?? []).reduce((mask, flag) => mask | (seccompFlags[flag] ?? 0), 0);
}

function toDevice(device: LinuxDevice): berth.monitor.v1.IDevice {
  return {
    path: device.path,
    type: fileTypes[device.type],
    major: device.major,
    minor: device.minor,
    mode: device.fileMode ?? everybody,
    uid: device.uid ?? 0,
    gid: device.gid ?? 0,
    of_host: device.uid === undefined,
  };
}

function pidNamespace(spec: OciSpec, pidTarget: string): Pick<Plan, "pid_namespace" | "pid_target"> {
  const sharing = spec.annotations?.[pidSharingAnnotation];
  switch (sharing) {
    case "container":
      return { pid_namespace: PidNamespace.CONTAINER };
    case "pod":
      return { pid_namespace: PidNamespace.POD };
    case "host":
      return { pid_namespace: PidNamespace.HOST };
    case "target":
      return { pid_namespace: PidNamespace.TARGET, pid_target: pidTarget };
    default:
      throw new InternalError(`the spec says ${sharing} of its PID namespace`);
  }
}

/** File systems that are made for a container alone, and can have a label for all their files. */
const labelledTypes = ["tmpfs", "devpts"];

function fileSystemMount({ destination, type, source, options }: Mount, mountLabel: string | undefined): PlanMount {
  const { attributes, parameters } = parseMountOptions(options);
  const label = mountLabel !== undefined && labelledTypes.includes(type) ? [`context=${mountLabel}`] : [];
  const isPodShm = type === "tmpfs" && source === podShmSource;
  return {
    destination,
    type: isPodShm ? "shm" : type,
    source,
    // the pod's shared memory was made with its size, and its label, when the pod was
    options: isPodShm ? [] : [...parameters, ...label],
    attributes: Long.fromNumber(attributes, true),
  };
}

/**
 * The cgroup file systems: the whole of cgroup v2, or for v1 a tmpfs with a directory for each hierarchy, named as on the
 * host. The tmpfs can only become read-only when they are there.
 */
function cgroupMounts(mount: Mount, hierarchies: readonly Hierarchy[], readonlyPaths: string[]): PlanMount[] {
  const { attributes } = parseMountOptions(mount.options);
  const { destination } = mount;
  const [first] = hierarchies;
  const mask = Long.fromNumber(attributes, true);
  if (first === undefined) return [];
  if (hierarchies.every(({ version }) => version === 2)) {
    return [{ destination, type: "cgroup2", source: "cgroup", attributes: mask }];
  }
  const readonly = mount.options.includes("ro");
  if (readonly) readonlyPaths.push(destination);
  const { attributes: open } = parseMountOptions(mount.options.filter((option) => option !== "ro"));
  return [
    { destination, type: "tmpfs", source: "tmpfs", options: ["mode=755"], attributes: Long.fromNumber(open, true) },
    ...hierarchies.map((hierarchy): PlanMount => {
      const at = `${destination}/${basename(hierarchy.mountPoint)}`;
      if (hierarchy.version === 2) return { destination: at, type: "cgroup2", source: "cgroup", attributes: mask };
      const named = hierarchy.name === "" ? [] : ["none", `name=${hierarchy.name}`];
      return {
        destination: at,
        type: "cgroup",
        source: hierarchy.name || "cgroup",
        options: hierarchy.controllers.length > 0 ? [...hierarchy.controllers] : named,
        attributes: mask,
      };
    }),
  ];
}
