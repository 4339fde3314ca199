/**
 * The one file that loads the native addon. Options objects go in, results or a SystemError come out; what is asked is
 * checked by the callers. Every function that may wait in the kernel runs on a thread of its own (never on libuv's pool)
 * and returns a promise; the others only do calls that cannot block.
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** What a failed system call leaves: the call, errno, and the path or thing it was about. */
export interface SystemError extends Error {
  /** the system call, or the step in words: "clone3", "mount overlay" */
  syscall: string;
  /** the name of the error: "ENOENT" */
  errnoName: string;
  errno: number;
  /** path, interface or cgroup that the call was about; empty when there is none */
  subject: string;
}

export function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && typeof (error as Partial<SystemError>).errnoName === "string";
}

export interface SpawnMonitorOptions {
  /** berth-monitor; it is executed from a read-only clone of its mount, so that nobody inside can write to it */
  executable: string;
  /** argv[1...]; `--listen-fd 3` is the addon's own addition */
  args: string[];
  /** the unix socket (mode 0600) that is bound and listening before the clone; may be longer than sun_path */
  socketPath: string;
  /** the monitor's stderr, appended to */
  logPath: string;
  namespaces: { network: boolean; ipc: boolean; uts: boolean; pid: boolean };
  /** its network namespace is bound to this file (mode 0444), which is made, its directories too; EEXIST when there is
   *  one. Empty: it is not */
  networkPin: string;
  /** cgroup v1: the child writes "0" into each */
  cgroupTasksFiles: string[];
  /** CLONE_INTO_CGROUP; empty: none */
  cgroup2Directory: string;
  /** net, IPC and UTS (all three) belong to a new user namespace with these maps. The monitor itself keeps the host's;
   *  it gets the new one as descriptor 5, and `--user-namespace-fd 5 --uid-map C:H:L --gid-map C:H:L` */
  userNamespace?: IdMaps;
}

/** A run of ids: `containerId` in the namespace is `hostId` outside, and so on for `length` ids. */
export interface IdMapping {
  containerId: number;
  hostId: number;
  length: number;
}

export interface IdMaps {
  uids: IdMapping;
  gids: IdMapping;
}

export interface SpawnedProcess {
  pid: number;
  /** for watchProcess and sendSignal; the caller closes it */
  pidfd: number;
}

export interface RunningProgram {
  /** the writing end of its standard input, a pipe of up to 1 MiB; the caller's */
  input: number;
  /** when it is reaped; output and errors up to the limit each. SystemError: it could not be started */
  ended: Promise<{ code: number | null; signal: number | null; output: Buffer; errors: Buffer }>;
  /** SIGKILL; nothing when it has ended */
  kill(): void;
  /** -20 to 19; nothing where the host does not allow it */
  setNice(nice: number): void;
}

/** A program, and the other ends of its standard streams; none of them blocks once a ByteStream has it. */
export interface SpawnedProgram extends SpawnedProcess {
  input: number;
  output: number;
  errors: number;
}

/** One connection to a monitor. Frames are whole: the length prefix is the transport's. */
export interface MonitorSocket {
  /** queues a frame; the descriptors are duplicated by the kernel, the caller still owns its own */
  send(frame: Uint8Array, descriptors: number[]): void;
  /** descriptors that came with frames, in the frames' order; the caller's from here on. To be called for each frame that
   *  speaks of some, when it comes. EPROTO: so many did not come */
  takeDescriptors(count: number): number[];
  /** no more callbacks after it */
  close(): void;
}

export interface MonitorSocketHandlers {
  onFrame(frame: Buffer): void;
  /** once: the peer went away, or the transport failed; never after close() */
  onClose(error: SystemError | null): void;
}

/** Bits of ByteStream.listen() and of its callback. */
export const readable = 1;
export const writable = 2;

/** A pipe's end, a terminal's master or a socket that never blocks. */
export interface ByteStream {
  /** bytes read; 0: there is nothing now; -1: nothing will come any more */
  read(into: Uint8Array): number;
  /** bytes taken; 0: there is no room now; -1: nobody reads any more */
  write(from: Uint8Array): number;
  /** what the callback is called for from here on, again and again; 0: nothing */
  listen(events: number): void;
  /** bytes can be read at this moment */
  hasInput(): boolean;
  /** a terminal's size */
  resize(columns: number, rows: number): void;
  /** a socket's peer is told that nothing more comes */
  endOutput(): void;
  close(): void;
}

export interface OverlayOptions {
  /** absolute, the topmost first */
  lower: string[];
  /** absent: a read-only overlay */
  upper?: string;
  work?: string;
  readonly?: boolean;
  /** of a read-only overlay: only this directory or file of it, resolved within it (RESOLVE_IN_ROOT) */
  subPath?: string;
  /** the upper layer need not survive a crash of the machine */
  volatile?: boolean;
  /** the lower directories show the ids of their files as this user namespace maps them; upper must have the host's ids */
  userNamespaceFd?: number;
  /** SELinux label of all its files (the mount option `context`) */
  context?: string;
  /** takes the way of kernels before 6.8 (a scratch mount namespace) on any kernel; for its test */
  scratchNamespace?: boolean;
}

export interface MountAttributes {
  /** MOUNT_ATTR_* bits */
  set?: number;
  clear?: number;
  /** MS_PRIVATE, MS_SLAVE or MS_SHARED */
  propagation?: number;
  recursive?: boolean;
}

export interface BridgeOptions {
  name: string;
  /** CIDRs of the bridge itself: "10.88.0.1/16" */
  addresses: string[];
  mtu: number;
}

export interface VethOptions {
  /** an open network namespace: where the pod's end is made */
  namespaceFd: number;
  bridge: string;
  hostName: string;
  podName: string;
  /** "0a:58:..." of the pod's end */
  podMac: string;
  mtu: number;
  addresses: string[];
  /** the default routes' gateways; each must be within one of the addresses' networks */
  gateways: string[];
}

export interface LinkStatistics {
  name: string;
  rxBytes: number;
  rxPackets: number;
  rxErrors: number;
  rxDropped: number;
  txBytes: number;
  txPackets: number;
  txErrors: number;
  txDropped: number;
}

export interface Link extends LinkStatistics {
  /** its number in its namespace */
  index: number;
  /** empty: it has none */
  mac: string;
  mtu: number;
  up: boolean;
  /** a veth's other end: its number in that end's namespace; 0: none */
  peer: number;
  /** the number of the bridge that it is a port of; 0: none */
  master: number;
}

/** A queue that packets leave an interface by, or (ingress) come in by. */
export interface Queue {
  /** the interface's number */
  interface: number;
  /** "noqueue", "tbf" */
  kind: string;
  /** packets */
  dropped: number;
  waitingBytes: number;
}

export interface LinkAddress {
  /** interface's name */
  name: string;
  /** CIDR */
  address: string;
}

export interface Route {
  /** CIDR; "0.0.0.0/0" or "::/0" for a default route */
  destination: string;
  /** empty: none */
  gateway: string;
  /** where it leads out; empty: several, or none */
  interface: string;
  /** the main one is 254 */
  table: number;
}

export interface NetworkChange {
  /** "missed": there were more changes than the kernel could queue */
  kind: "link-gone" | "link-down" | "table-changed" | "missed";
  /** of the interface or the table; empty for "missed" */
  name: string;
}

/** One rule of a seccomp profile, in the OCI runtime specification's words (linux.seccomp). */
export interface SeccompArg {
  index: number;
  /** a string (decimal, or hexadecimal after 0x) where 53 bits are not enough */
  value: number | string;
  valueTwo?: number | string;
  op: string;
}
export interface SeccompRule {
  names: string[];
  action: string;
  errnoRet?: number;
  args?: SeccompArg[];
}
export interface SeccompProfile {
  defaultAction: string;
  defaultErrnoRet?: number;
  /** beside the native one; those that this machine cannot run are left out. Calls of others kill the process */
  architectures?: string[];
  /** only checked: they are an argument of seccomp(2), not of the filter */
  flags?: string[];
  syscalls?: SeccompRule[];
}

/** A walk through a tree, in steps. */
export interface UsageWalk {
  /** goes on for limitMs at most (and one system call); one step at a time. ENOENT: the directory is not there */
  step(limitMs: number): Promise<{ done: boolean; bytes: number; inodes: number }>;
}

export interface KernelFeatures {
  release: string;
  /** lowerdir+ of overlay: 6.8 */
  overlayLowerdirPlus: boolean;
  /** mount_setattr with AT_RECURSIVE: 5.12 */
  mountSetattr: boolean;
  /** idmapped overlay layers and tmpfs: 6.3 */
  idmappedTmpfs: boolean;
  cgroupKill: boolean;
  seccomp: boolean;
  seccompActions: string[];
  apparmor: boolean;
  selinux: boolean;
  psi: boolean;
  userNamespaces: boolean;
  /** bit n: the agent has capability n in its permitted set */
  capabilities: bigint;
  /** the last capability that the kernel knows */
  lastCapability: number;
}

/** A file of every cgroup's, and what of it is a statistic. */
export interface SampledFile {
  /** of the hierarchy: the cgroup's path follows it */
  root: string;
  file: string;
  /** the one value of the file is the number of its lines, in the cgroup and all below it; it has no keys */
  counted?: boolean;
  /** a value each: "" is the file's one number, "name" the word after the name at a line's beginning, "word name" what stands
   *  after "name=" in the line that begins with the word. Numbers are multiplied by the factor */
  keys: { key: string; factor?: number }[];
}

/** Reads those files of many cgroups in one pass; descriptors stay open from pass to pass. */
export interface Sampler {
  /** for each path a row: the time of its reading (nanoseconds since the epoch), and a value for each file's keys in order.
   *  NaN: the kernel does not tell it (or the cgroup is gone); Infinity: "max" */
  sample(paths: readonly string[]): Promise<Float64Array>;
  /** the cgroup was removed: the next pass closes its files */
  forget(path: string): void;
}

/** One result of readFiles: the content, or errno's name. */
export type FileRead = { content: string } | { errnoName: string };

export interface Addon {
  // spawn_monitor.cc
  spawnMonitor(options: SpawnMonitorOptions): Promise<SpawnedProcess>;
  /** calls back once, when the process has ended (its zombie is reaped when it is ours); `code` is null when it was not
   *  our child */
  watchProcess(pidfd: number, onExit: (code: number | null, signal: number | null) => void): { close(): void };
  /** pidfd_open; ESRCH when there is none */
  openProcess(pid: number): number;
  /** pidfd_send_signal */
  sendSignal(pidfd: number, signal: number): void;

  // run_program.cc
  /** runs a program with an empty environment; its standard streams are pipes */
  runProgram(options: { executable: string; args: string[]; outputLimitBytes: number }): RunningProgram;

  // spawn_program.cc
  /** starts a program without arguments, in a process group of its own, with "/" as its directory and these variables
   *  ("NAME=value") alone. ENOENT, EACCES, ENOEXEC: it cannot be executed. All descriptors are the caller's */
  spawnProgram(options: { path: string; environment: string[] }): Promise<SpawnedProgram>;

  // namespace_pin.cc
  /** umount2(MNT_DETACH) and unlink; nothing there is success */
  unpinNamespace(path: string): Promise<void>;

  // monitor_socket.cc
  /** fails with ECONNREFUSED or ENOENT when nobody listens; the path may be longer than sun_path */
  connectMonitor(path: string, handlers: MonitorSocketHandlers): MonitorSocket;

  // byte_stream.cc
  /** takes the descriptor over (not when it throws); `onReady` gets the events of listen() that have come */
  openByteStream(fd: number, onReady: (events: number) => void): ByteStream;

  // loopback_connect.cc
  /** a socket that is connected to the port on 127.0.0.1, or else ::1, of a network namespace ("": the host's); the
   *  caller's. The error is that of 127.0.0.1 */
  connectLoopback(options: { namespacePath: string; port: number }): Promise<number>;

  // mount.cc
  /** open_tree(OPEN_TREE_CLONE): a detached mount of the path. `root`: the path is resolved within it (RESOLVE_IN_ROOT) */
  openTree(options: {
    path: string;
    root?: string;
    recursive: boolean;
    attributes?: MountAttributes;
    /** ids are shown as this user namespace maps them, below the top mount where the file systems can. EINVAL: the file
     *  system cannot; EPERM: its ids are mapped already */
    userNamespaceFd?: number;
  }): Promise<number>;
  setMountAttributes(fd: number, attributes: MountAttributes): void;
  /** a detached overlay; before Linux 6.8 by way of a scratch mount namespace */
  mountOverlay(options: OverlayOptions): Promise<number>;
  /** attaches a detached mount at a path of the host */
  attachMount(fd: number, path: string): Promise<void>;
  /** umount2(MNT_DETACH); EINVAL when nothing is mounted there */
  unmount(path: string): Promise<void>;
  /** opens read-only beneath root (openat2, RESOLVE_IN_ROOT, O_NONBLOCK), takes regular files only; reads at most limit
   *  bytes (EFBIG when there are more) */
  readFileInRoot(options: { rootFd: number; path: string; limitBytes: number }): Promise<Buffer>;
  /** the mount that the path lies on, resolved as by readFileInRoot, by its number in mountinfo. The root may be in another
   *  mount namespace */
  mountIdInRoot(options: { rootFd: number; path: string }): Promise<number>;
  /** a file (also a namespace's) or directory: read-only, for setns, flock or as a root; anything else: O_PATH */
  openPath(path: string): number;
  /** O_PATH of a path within a root, resolved as by readFileInRoot; the caller's */
  openPathInRoot(options: { rootFd: number; path: string }): number;
  closeDescriptor(fd: number): void;

  // cgroup.cc
  /** mkdir -p of each (modes 0755), then the writes in order; on failure removes what it made */
  createCgroups(options: { directories: string[]; writes: [path: string, value: string][] }): Promise<void>;
  /** writes in order; stops at the first failure */
  writeFiles(writes: [path: string, value: string][]): Promise<void>;
  /** rmdir of each with all that is below; already gone is success; waits up to timeoutMs while EBUSY */
  removeCgroups(options: { directories: string[]; timeoutMs: number }): Promise<void>;
  /** SIGKILLs everything in the given cgroups and below: cgroup.kill where there is one, else a kill loop over
   *  cgroup.procs (frozen meanwhile, if that is not enough), until it is empty or the time is over (ETIMEDOUT). EPERM, and
   *  nothing is killed, when the agent itself is in there */
  killCgroups(options: { directories: string[]; timeoutMs: number }): Promise<void>;
  /** BPF_PROG_TYPE_CGROUP_DEVICE from an array of struct bpf_insn, attached to a cgroup2 directory; replaces the programs
   *  that were attached to it before */
  attachDeviceProgram(options: { directory: string; instructions: Uint8Array }): Promise<void>;

  // stats.cc
  /** reads small files one after another, each at most 64 KiB */
  readFiles(paths: string[]): Promise<FileRead[]>;

  // sampler.cc
  openSampler(files: readonly SampledFile[]): Sampler;

  // password.cc
  /** against a hash of crypt(5); false, too, when the hash is none */
  checkPassword(password: string, hash: string): Promise<boolean>;

  // open_files.cc
  /** of the processes in each cgroup directory: how many files they have open, and how many of these are sockets */
  countOpenFiles(directories: readonly string[]): Promise<Float64Array>;

  // disk_usage.cc
  /** counts what the blocks occupy and the inodes of a directory and all below it, without crossing file systems; hard links
   *  count once. Nothing happens before the first step */
  openUsageWalk(directory: string): UsageWalk;

  // filesystem.cc
  /** syncfs of the file system that holds the file or directory: what was written before is on its disk when this resolves */
  syncFileSystem(path: string): Promise<void>;
  /** what is made in the directory has nothing to do with each other: ext4 (its flag T) puts its subdirectories far apart,
   *  so that they share no block group's lock; other file systems need no telling */
  spreadSubdirectories(path: string): void;

  // inherit_directories.cc
  /** gives directories of a layer the mode, owner, time and attributes of the topmost directory of that path among the layers
   *  below; what is none is left alone. @param options.lower topmost first @param options.paths each ends with a NUL; the
   *  empty one is the layer's root */
  inheritDirectories(options: { directory: string; lower: string[]; paths: Buffer }): Promise<void>;

  // btrfs.cc: paths are absolute
  /** ENOTTY: it is no btrfs */
  createSubvolume(path: string): Promise<void>;
  /** writable; the source may be read-only. EXDEV: it is on another file system. EINVAL: it is no subvolume */
  snapshotSubvolume(options: { from: string; to: string }): Promise<void>;
  makeSubvolumeReadOnly(path: string): Promise<void>;
  /** with all that are nested in it, read-only ones, too. ENOENT: there is none; EINVAL or ENOTTY: it is no subvolume */
  deleteSubvolume(path: string): Promise<void>;
  /** how much a subvolume may have for itself alone; quotas are switched on where they are not */
  limitSubvolume(path: string, limitBytes: number): Promise<void>;
  /** begins to free what subvolumes took that were deleted; by itself btrfs does that every 30 s */
  cleanBtrfs(path: string): Promise<void>;

  // project_quota.cc
  /** what is made in the directory from here on belongs to the project, too. EOPNOTSUPP, ENOTTY: the file system knows none */
  setProject(path: string, project: number): Promise<void>;
  /** 0: none */
  getProject(path: string): Promise<number>;
  /** 0: no limit. ESRCH, ENOSYS: the file system is mounted without project quotas. @param options.path any of its directories */
  limitProject(options: { path: string; project: number; limitBytes: number }): Promise<void>;
  /** what all of its files take; ESRCH, ENOSYS: as limitProject */
  projectUsage(path: string, project: number): Promise<{ bytes: number; inodes: number; limitBytes: number }>;

  // relabel.cc
  /** security.selinux of an open file, or of a directory and all below it: no links are followed, nothing that is mounted
   *  below is touched, file systems without labels are left alone. `path` is what errors call it */
  relabelTree(options: { fd: number; path: string; label: string }): Promise<void>;

  // seccomp.cc
  /** the native architecture's filter as an array of struct sock_filter; unknown syscall names are left out. Where the
   *  default action refuses, calls newer than all that the profile names are answered ENOSYS. EINVAL or EOPNOTSUPP
   *  (SCMP_ACT_NOTIFY) names the field in `subject` */
  compileSeccomp(profile: SeccompProfile): Buffer;

  // netlink.cc
  /** makes the bridge (or adopts one of that name), gives it the addresses, sets it up; EEXIST: another kind of interface
   *  has the name */
  ensureBridge(options: BridgeOptions): Promise<void>;
  /** loopback up in a network namespace */
  setLoopbackUp(namespaceFd: number): Promise<void>;
  /** veth with both ends up, lo up, addresses, default routes, hairpin on the bridge's port; on failure leaves nothing */
  attachVeth(options: VethOptions): Promise<void>;
  /** makes interfaces of the host ports of the bridge, with hairpin; those that have gone are passed over */
  joinBridge(options: { bridge: string; interfaces: string[] }): Promise<void>;
  /** gone already is success */
  deleteLink(name: string): Promise<void>;

  // network_lists.cc
  /** of the host, or of a namespace */
  listLinks(options: { namespaceFd?: number }): Promise<Link[]>;
  /** of each namespace, in one pass: its links' names without loopback, and of each link eight values (received and then sent:
   *  bytes, packets, errors, dropped). Of a namespace that is gone there are none */
  linkStatistics(namespacePaths: readonly string[]): Promise<{ names: string[][]; values: Float64Array }>;
  listAddresses(options: { namespaceFd?: number }): Promise<LinkAddress[]>;
  /** those that lead somewhere (unicast), IPv4 and IPv6, of all tables but the one of local addresses */
  listRoutes(options: { namespaceFd?: number }): Promise<Route[]>;

  // traffic_control.cc
  /** token buckets on the host's end of a veth, in bits a second; 0: no limit. What comes from the pod is led through an ifb
   *  of that name and alias, which is made; on failure it is not left */
  shapeLink(options: {
    link: string;
    toPodBits: number;
    fromPodBits: number;
    ifb: string;
    alias: string;
  }): Promise<void>;

  /** of the host, or of a namespace */
  listQueues(options: { namespaceFd?: number }): Promise<Queue[]>;

  // conntrack.cc
  /** the kernel forgets UDP flows whose first packet went to one of these ports (as text), and which it leads to one of
   *  the addresses, or to the host itself; answers how many */
  forgetUdpFlows(options: { ports: string[]; addresses: string[] }): Promise<number>;

  // network_watch.cc
  /** tells of every interface of the host that goes, of the bridge when it is set down, and of what is taken from the inet
   *  table, by whomsoever. Does not keep the event loop alive */
  watchNetwork(
    options: { bridge: string; table: string },
    onChange: (change: NetworkChange) => void,
  ): { close(): void };

  // nftables.cc
  /** runs a libnftables JSON document in one transaction; answers its JSON output (empty when it asks for none) */
  runNftables(json: string): Promise<string>;

  // user_namespace.cc
  /** a new user namespace that nothing but the descriptor keeps */
  makeUserNamespace(maps: IdMaps): Promise<number>;
  /** the user namespace that owns the namespace at a path */
  openOwningUserNamespace(path: string): number;

  // features.cc
  probeFeatures(): KernelFeatures;

  // terminal.cc
  /** keys come one by one, and nothing is done to input or output; the function that is answered takes it back */
  makeTerminalRaw(fd: number): () => void;

  // lock.cc
  /** flock(LOCK_EX|LOCK_NB) on a file it makes; the descriptor holds the lock. EAGAIN: somebody has it */
  lockFile(path: string): number;
}

/** Where the build puts the native products; a package sets BERTH_NATIVE_DIR. */
export const nativeDirectory =
  process.env["BERTH_NATIVE_DIR"] ?? join(dirname(fileURLToPath(import.meta.url)), "..", "..", "build");

export const native: Addon = createRequire(import.meta.url)(join(nativeDirectory, "berth.node")) as Addon;

/** The programs that the agent starts. */
export const programs = {
  monitor: join(nativeDirectory, "berth-monitor"),
  unpack: join(nativeDirectory, "berth-unpack"),
  archive: join(nativeDirectory, "berth-archive"),
} as const;
