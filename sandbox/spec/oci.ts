/**
 * The part of the OCI runtime specification (config.json, 1.2) that Berth uses, in its own names. A spec is stored with
 * its container as JSON, so that every number fits a JavaScript number and an absent property stays absent.
 */

export interface OciSpec {
  ociVersion: string;
  process: Process;
  root: Root;
  hostname?: string;
  mounts: Mount[];
  hooks?: Hooks;
  annotations?: Record<string, string>;
  linux: Linux;
}

/** In the order of a container's life; prestart is an older word for createRuntime. */
export const hookStages = [
  "prestart",
  "createRuntime",
  "createContainer",
  "startContainer",
  "poststart",
  "poststop",
] as const;

export type HookStage = (typeof hookStages)[number];

export type Hooks = Partial<Record<HookStage, Hook[]>>;

export interface Hook {
  /** absolute */
  path: string;
  /** with the first one; absent: the path alone */
  args?: string[];
  /** NAME=value */
  env?: string[];
  /** seconds */
  timeout?: number;
}

export interface Root {
  path: string;
  readonly: boolean;
}

export interface Process {
  terminal: boolean;
  consoleSize?: { height: number; width: number };
  user: User;
  args: string[];
  /** NAME=value */
  env: string[];
  cwd: string;
  capabilities: LinuxCapabilities;
  rlimits?: PosixRlimit[];
  noNewPrivileges: boolean;
  apparmorProfile?: string;
  selinuxLabel?: string;
  oomScoreAdj?: number;
}

export interface User {
  uid: number;
  gid: number;
  umask?: number;
  additionalGids?: number[];
}

/** Names with their CAP_ prefix. */
export interface LinuxCapabilities {
  bounding: string[];
  effective: string[];
  inheritable: string[];
  permitted: string[];
  ambient: string[];
}

export interface PosixRlimit {
  /** RLIMIT_NOFILE ... */
  type: string;
  soft: number;
  hard: number;
}

export interface Mount {
  destination: string;
  /** "bind", or a file system */
  type: string;
  source: string;
  /** flags as mount(8) names them (ro, nosuid, rbind, rslave, rro), then the file system's own */
  options: string[];
  uidMappings?: LinuxIdMapping[];
  gidMappings?: LinuxIdMapping[];
}

export interface Linux {
  namespaces: LinuxNamespace[];
  uidMappings?: LinuxIdMapping[];
  gidMappings?: LinuxIdMapping[];
  devices: LinuxDevice[];
  cgroupsPath: string;
  resources: LinuxResources;
  /** private, shared, slave; absent: private */
  rootfsPropagation?: string;
  /** absent: unconfined */
  seccomp?: LinuxSeccomp;
  sysctl?: Record<string, string>;
  maskedPaths: string[];
  readonlyPaths: string[];
  mountLabel?: string;
  intelRdt?: LinuxIntelRdt;
}

export type LinuxNamespaceType = "pid" | "network" | "mount" | "ipc" | "uts" | "user" | "cgroup" | "time";

export interface LinuxNamespace {
  type: LinuxNamespaceType;
  /** absent: a new one */
  path?: string;
}

export interface LinuxIdMapping {
  containerID: number;
  hostID: number;
  size: number;
}

export interface LinuxDevice {
  path: string;
  /** c character, b block, p fifo, u unbuffered character */
  type: "c" | "b" | "p" | "u";
  major: number;
  minor: number;
  /** permission bits */
  fileMode?: number;
  /** absent: its owner is the host's root, in a user namespace nobody */
  uid?: number;
  gid?: number;
}

/** What the cgroup is told. An absent property leaves the kernel's default (or, in an update, the value) alone. */
export interface LinuxResources {
  devices?: LinuxDeviceCgroup[];
  memory?: LinuxMemory;
  cpu?: LinuxCpu;
  pids?: LinuxPids;
  hugepageLimits?: LinuxHugepageLimit[];
  blockIO?: LinuxBlockIo;
  /** cgroup2 file name to content, written as given */
  unified?: Record<string, string>;
}

/** One rule of the device cgroup; later rules win. */
export interface LinuxDeviceCgroup {
  allow: boolean;
  /** a all, c character, b block */
  type?: "a" | "c" | "b";
  /** absent: every number */
  major?: number;
  minor?: number;
  /** of r read, w write, m mknod; absent: all three */
  access?: string;
}

export interface LinuxMemory {
  /** bytes; -1: no limit */
  limit?: number;
  /** bytes, soft limit */
  reservation?: number;
  /** bytes of memory and swap together, as on cgroup v1; -1: no limit */
  swap?: number;
  swappiness?: number;
  disableOOMKiller?: boolean;
}

export interface LinuxCpu {
  shares?: number;
  /** microseconds a period; -1: no limit */
  quota?: number;
  /** microseconds */
  period?: number;
  /** lists of ranges: "0-3,7" */
  cpus?: string;
  mems?: string;
}

export interface LinuxPids {
  /** -1: no limit */
  limit: number;
}

/** Weights are 10 to 1000. */
export interface LinuxBlockIo {
  weight?: number;
  weightDevice?: { major: number; minor: number; weight: number }[];
  /** bytes a second */
  throttleReadBpsDevice?: LinuxThrottleDevice[];
  throttleWriteBpsDevice?: LinuxThrottleDevice[];
  /** operations a second */
  throttleReadIOPSDevice?: LinuxThrottleDevice[];
  throttleWriteIOPSDevice?: LinuxThrottleDevice[];
}

export interface LinuxThrottleDevice {
  major: number;
  minor: number;
  rate: number;
}

/** The group of resctrl that its processes are in. */
export interface LinuxIntelRdt {
  closID: string;
}

export interface LinuxHugepageLimit {
  /** "2MB", "1GB" */
  pageSize: string;
  /** bytes */
  limit: number;
}

export interface LinuxSeccomp {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures?: string[];
  flags?: string[];
  listenerPath?: string;
  listenerMetadata?: string;
  syscalls?: LinuxSyscall[];
}

export interface LinuxSyscall {
  names: string[];
  action: string;
  errnoRet?: number;
  args?: LinuxSeccompArg[];
}

export interface LinuxSeccompArg {
  index: number;
  /** a decimal string where the number does not fit a JavaScript number */
  value: number | string;
  valueTwo?: number | string;
  op: string;
}
