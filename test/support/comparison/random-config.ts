/** Random requests for a pod and a container, of all that a kubelet can ask which an OCI runtime has a word for. */
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import type { runtime } from "../../../cri-proto/generated/runtime.js";
import { runtime as cri } from "../../../cri-proto/generated/runtime.js";
import { long } from "../workload.js";
import { resolved } from "./deliberate.js";
import { Random } from "./random.js";
import type { World } from "./world.js";

const { NamespaceMode, MountPropagation, SecurityProfile, SupplementalGroupsPolicy } = cri.v1;

export interface RandomRequest {
  pod: runtime.v1.IPodSandboxConfig;
  container: runtime.v1.IContainerConfig;
  /** the container shares another one's processes, whose id is still to be filled in */
  needsTarget: boolean;
}

/** `cgroupRoot`: cgroup parents are made below it. */
export function randomRequest(seed: number, world: World, cgroupRoot: string): RandomRequest {
  const random = new Random(seed);
  const privileged = random.chance(0.12);
  const modes = podModes(random);
  const pod: runtime.v1.IPodSandboxConfig = {
    hostname: random.pick(["", "pod-name", "a-name.with.dots", `n${"x".repeat(62)}`]),
    ...(random.chance(0.3) && {
      dns_config: { servers: ["10.0.0.10"], searches: ["test.svc"], options: ["ndots:5"] },
    }),
    linux: {
      ...(random.chance(0.5) && {
        cgroup_parent: `${cgroupRoot}/kubepods/${random.pick(["burstable", "besteffort/a"])}`,
      }),
      ...(random.chance(0.4) && { sysctls: sysctls(random, modes) }),
      security_context: { namespace_options: modes, privileged },
    },
  };
  const pid = containerPid(random, modes);
  const volumes = mounts(random, world, privileged);
  // what covers a path there would cover it on the host, too
  const sharesVolume = volumes.some(({ propagation }) => propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL);
  const hasOwnDev = volumes.some(({ container_path }) => container_path === "/dev");
  const shell = random.chance(0.15);
  const container: runtime.v1.IContainerConfig = {
    image: { image: random.pick(world.images) },
    command: shell ? ["sh", "-c"] : ["/probe"],
    args: shell ? ["exec /probe"] : random.pick([[], ["an argument", "", "$(NOT_EXPANDED)"]]),
    ...(random.chance(0.5) && { working_dir: random.pick(workingDirectories) }),
    envs: random.some(environment, 4),
    mounts: volumes,
    // with a volume there runc makes no devices at all
    devices: random.chance(0.4) && !hasOwnDev ? devices(random) : [],
    stdin: random.chance(0.2),
    tty: !shell && random.chance(0.2),
    linux: {
      ...(random.chance(0.7) && { resources: resources(random) }),
      security_context: {
        ...identity(random),
        ...(random.chance(0.6) && { capabilities: capabilities(random) }),
        ...securityPaths(random, sharesVolume),
        ...(random.chance(0.7) && { seccomp: seccomp(random, world) }),
        privileged,
        namespace_options: { ...modes, pid },
        readonly_rootfs: random.chance(0.3),
        no_new_privs: random.chance(0.4),
      },
    },
  };
  const final = random.chance(0.08) ? madeWrong(random, world, container) : container;
  return { pod, container: final, needsTarget: pid === NamespaceMode.TARGET };
}

/** The container with something that cannot be, or only just. */
function madeWrong(
  random: Random,
  { directory }: World,
  container: runtime.v1.IContainerConfig,
): runtime.v1.IContainerConfig {
  const plain = join(directory, "plain");
  const change = random.pick<runtime.v1.IContainerConfig>([
    { command: ["/not/there"] },
    { command: ["/etc/passwd"] },
    { command: ["/etc"] },
    { working_dir: "/etc/passwd" },
    { working_dir: "/etc/passwd/below" },
    { mounts: [{ container_path: "/etc", host_path: join(plain, "file") }] },
    { mounts: [{ container_path: "/bin/busybox", host_path: plain }] },
    { mounts: [{ container_path: "/bin/busybox/below", host_path: plain }] },
    { mounts: [{ container_path: "/probe", host_path: join(plain, "file") }] },
    { mounts: [{ container_path: "/dev/null", host_path: join(plain, "file") }] },
    { mounts: [{ container_path: "/dev/console", host_path: "/dev/zero" }] },
    { mounts: [{ container_path: "/dev/pts", host_path: plain }] },
    { mounts: [{ container_path: "/sys", host_path: plain }] },
    { mounts: [{ container_path: "/etc/group", host_path: join(plain, "link", "..", "link") }] },
    { devices: [{ host_path: "/dev/null", container_path: "/data", permissions: "r" }] },
    { devices: [{ host_path: "/dev/zero", container_path: "/link/zero", permissions: "r" }] },
  ]);
  return { ...container, ...change, mounts: [...(container.mounts ?? []), ...(change.mounts ?? [])] };
}

function podModes(random: Random): runtime.v1.INamespaceOption {
  const mode = () => (random.chance(0.15) ? NamespaceMode.NODE : NamespaceMode.POD);
  return { network: mode(), ipc: mode(), pid: random.pick([mode(), NamespaceMode.CONTAINER]) };
}

function containerPid(random: Random, { pid }: runtime.v1.INamespaceOption): runtime.v1.NamespaceMode {
  const { CONTAINER, POD, NODE, TARGET } = NamespaceMode;
  if (pid === NODE) return random.pick([NODE, NODE, POD, CONTAINER]);
  return random.pick([CONTAINER, CONTAINER, CONTAINER, POD, TARGET]);
}

function sysctls(random: Random, { network, ipc }: runtime.v1.INamespaceOption): Record<string, string> {
  const ofNetwork: [string, string][] = [
    ["net.core.somaxconn", "1234"],
    ["net.ipv4.tcp_keepalive_time", "333"],
    ["net.ipv4.ip_unprivileged_port_start", "1024"],
    ["net/ipv4/ip_local_port_range", "30000 31000"],
    ["net.ipv4.ping_group_range", "5 10"],
  ];
  const ofIpc: [string, string][] = [
    ["kernel.shmmax", "123456789"],
    ["kernel.shm_rmid_forced", "1"],
    ["kernel.msgmax", "65000"],
    ["kernel.sem", "250 32000 100 130"],
    ["fs.mqueue.msg_max", "11"],
  ];
  const possible = [...(network === NamespaceMode.NODE ? [] : ofNetwork), ...(ipc === NamespaceMode.NODE ? [] : ofIpc)];
  return Object.fromEntries(random.some(possible, 4));
}

const workingDirectories = [
  "/",
  "/tmp",
  "/home/app",
  "/made/just/now",
  "/link/below",
  "/data",
  "/root",
  "/opt/secret",
  "/mnt/a",
];

const environment: runtime.v1.IKeyValue[] = [
  { key: "PLAIN", value: Buffer.from("value") },
  { key: "SPACES", value: Buffer.from(" two  words ") },
  { key: "UNICODE", value: Buffer.from("ü☃") },
  { key: "EMPTY" },
  { key: "PATH", value: Buffer.from("/nowhere:/bin") },
  { key: "HOME", value: Buffer.from("/data") },
  { key: "HOSTNAME", value: Buffer.from("other") },
  { key: "TERM", value: Buffer.from("vt100") },
  { key: "LONG", value: Buffer.from("l".repeat(5_000)) },
];

function identity(random: Random): runtime.v1.ILinuxContainerSecurityContext {
  const policy = random.pick([SupplementalGroupsPolicy.Merge, SupplementalGroupsPolicy.Strict]);
  const groups = random.some([7, 1000, 2000, 65534, 1_000_000, 2_147_483_647], 4).map(long);
  const who = random.pick<runtime.v1.ILinuxContainerSecurityContext>([
    {},
    {},
    { run_as_user: { value: long(0) } },
    { run_as_user: { value: long(0) }, run_as_group: { value: long(2000) } },
    { run_as_user: { value: long(1000) } },
    { run_as_user: { value: long(1000) }, run_as_group: { value: long(0) } },
    { run_as_user: { value: long(2_000_000_000) }, run_as_group: { value: long(77) } },
    { run_as_username: "app" },
    { run_as_username: "nobody", run_as_group: { value: long(5) } },
  ]);
  return { ...who, supplemental_groups: groups, supplemental_groups_policy: policy };
}

const someCapabilities = [
  "NET_ADMIN",
  "SYS_ADMIN",
  "CAP_SYS_PTRACE",
  "sys_time",
  "NET_RAW",
  "CHOWN",
  "SETUID",
  "MKNOD",
  "SETPCAP",
  "BPF",
];

function capabilities(random: Random): runtime.v1.ICapability {
  return {
    add_capabilities: random.chance(0.1) ? ["ALL"] : random.some(someCapabilities, 3),
    drop_capabilities: random.chance(0.25) ? ["ALL"] : random.some(someCapabilities, 3),
    add_ambient_capabilities: random.chance(0.3) ? random.some(["NET_BIND_SERVICE", "NET_RAW", "SYS_NICE"], 2) : [],
  };
}

const kubeletMasked = [
  "/proc/asound",
  "/proc/acpi",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/sys/firmware",
  "/sys/devices/virtual/powercap",
];
const kubeletReadonly = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

function securityPaths(random: Random, kubeletsAlone: boolean): runtime.v1.ILinuxContainerSecurityContext {
  if (random.chance(0.6) || kubeletsAlone) return { masked_paths: kubeletMasked, readonly_paths: kubeletReadonly };
  if (random.chance(0.3)) return {};
  return {
    masked_paths: random.some([...kubeletMasked, "/data", "/opt/file", "/mnt/a/inner", "/not/there", "/link"], 6),
    readonly_paths: random.some(
      [...kubeletReadonly, "/tmp", "/data", "/etc", "/opt/file", "/mnt/a", "/not/there", "/dev/shm"],
      5,
    ),
  };
}

function seccomp(random: Random, world: World): runtime.v1.ISecurityProfile {
  const { RuntimeDefault, Unconfined, Localhost } = SecurityProfile.ProfileType;
  const profile_type = random.pick([RuntimeDefault, RuntimeDefault, Unconfined, Localhost]);
  return { profile_type, localhost_ref: profile_type === Localhost ? join(world.directory, "profile.json") : "" };
}

interface Source {
  path: string;
  isFile?: boolean;
  propagates?: boolean;
}

const sources: Source[] = [
  { path: "plain" },
  { path: "plain/directory" },
  { path: "plain/link" },
  { path: "plain/link/inner" },
  { path: "plain/closed" },
  { path: "plain/file", isFile: true },
  { path: "plain/file-link", isFile: true },
  { path: "missing/made/by/it" },
  { path: "shared", propagates: true },
  { path: "shared/directory", propagates: true },
  { path: "shared/sub", propagates: true },
  { path: "slave" },
  { path: "flags" },
  { path: "readonly" },
];
const directoryPlaces = [
  "/data",
  "/data/nested",
  "/data/nested/deeper",
  "/mnt/a",
  "/mnt/a/inner",
  "/link/through",
  "/up",
  "/var/run/x",
  "/tmp",
  "/home/app",
  "/dev/shm",
  "/dev/volume",
  "/opt/secret",
  "/srv",
];
const filePlaces = [
  "/etc/hosts",
  "/etc/resolv.conf",
  "/dev/termination-log",
  "/opt/file",
  "/new/place/file",
  "/link/file",
  "/mnt/a/file",
  "/etc/passwd",
  "/proc/cpuinfo",
];
const volumeOptions = ["noexec", "nosuid", "nodev", "nodiratime", "nosymfollow"];
const accessTimes = ["noatime", "strictatime", "relatime"];

function mounts(random: Random, world: World, privileged: boolean): runtime.v1.IMount[] {
  const taken = new Set<string>();
  const found: runtime.v1.IMount[] = [];
  for (let count = random.pick([0, 1, 2, 3, 5, 7]); count > 0; count--) {
    const mount = random.chance(0.12) ? imageVolume(random, world) : volume(random, world);
    const path = mount.container_path ?? "";
    // the probe has to be found, and what is shared with the host must not get mounts inside
    const isInside = found.some((other) => path.startsWith(`${other.container_path}/`) && other.propagation === 2);
    if (taken.has(path) || isInside) continue;
    taken.add(path);
    found.push(mount);
  }
  if (privileged && random.chance(0.2)) found.push({ container_path: "/sys/fs/cgroup", host_path: "/sys/fs/cgroup" });
  if (privileged && random.chance(0.1)) found.push({ container_path: "/dev", host_path: "/dev" });
  const bidirectional = found.filter(({ propagation }) => propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL);
  const nested = ({ container_path }: runtime.v1.IMount) =>
    bidirectional.some((one) => resolved(container_path ?? "").startsWith(`${resolved(one.container_path ?? "")}/`));
  return found.filter((mount) => !nested(mount));
}

function volume(random: Random, world: World): runtime.v1.IMount {
  const { path, isFile, propagates } = random.pick(sources);
  const { PROPAGATION_PRIVATE, PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL } = MountPropagation;
  const follows = propagates || path === "slave";
  const propagation = random.pick([
    PROPAGATION_PRIVATE,
    ...(follows ? [PROPAGATION_HOST_TO_CONTAINER] : []),
    ...(propagates ? [PROPAGATION_BIDIRECTIONAL] : []),
  ]);
  const readonly = random.chance(0.4);
  return {
    container_path: random.pick(isFile ? filePlaces : directoryPlaces),
    host_path: join(world.directory, path),
    propagation,
    readonly,
    recursive_read_only: readonly && propagation === PROPAGATION_PRIVATE && random.chance(0.3),
    mount_options: random.chance(0.2) ? [...random.some(volumeOptions, 3), ...random.some(accessTimes, 1)] : [],
  };
}

function imageVolume(random: Random, world: World): runtime.v1.IMount {
  return {
    container_path: random.pick(directoryPlaces),
    image: { image: random.pick(world.images) },
    image_sub_path: random.pick(["", "", "etc", "data"]),
    readonly: true,
    mount_options: random.chance(0.3) ? random.some(["noexec", "nosymfollow", "noatime"], 2) : [],
  };
}

function devices(random: Random): runtime.v1.IDevice[] {
  const possible: runtime.v1.IDevice[] = [
    { host_path: "/dev/fuse", container_path: "/dev/fuse", permissions: "rwm" },
    { host_path: "/dev/null", container_path: "/dev/also/null", permissions: "r" },
    { host_path: "/dev/net", container_path: "/dev/net", permissions: "rw" },
    { host_path: "/dev/loop0", container_path: "/dev/loop0", permissions: "r" },
    { host_path: "/dev/zero", container_path: "/dev/zero", permissions: "w" },
    { host_path: "/dev/full", container_path: "/srv/full", permissions: "rwm" },
    { host_path: "/dev/random", container_path: "", permissions: "m" },
  ];
  return random.some(
    possible.filter(({ host_path }) => existsSync(host_path ?? "")),
    4,
  );
}

const mebibyte = 1024 * 1024;

function resources(random: Random): runtime.v1.ILinuxContainerResources {
  const limit = random.pick([0, 0, 32, 64, 1000]) * mebibyte;
  const swap = random.pick([0, 0, 1, 2]);
  return {
    cpu_shares: long(random.pick([0, 2, 102, 1024, 5000, 262_144, 1, 1_000_000])),
    cpu_quota: long(random.pick([0, 0, -1, 60_000, 150_000])),
    cpu_period: long(random.pick([0, 0, 100_000, 50_000])),
    cpuset_cpus: random.pick(["", "", "0", ...(cpus().length > 1 ? ["0-1", "1"] : [])]),
    cpuset_mems: random.pick(["", "", "0"]),
    memory_limit_in_bytes: long(limit),
    memory_swap_limit_in_bytes: long(limit === 0 ? 0 : random.pick([swap * limit, -1])),
    oom_score_adj: long(random.pick([0, 0, 2, 985, 1000, -500])),
    hugepage_limits: random.chance(0.3) ? [{ page_size: "2MB", limit: long(0) }] : [],
    unified: random.chance(0.3) ? { "pids.max": random.pick(["max", "100", "2000"]) } : {},
  };
}
