/**
 * The one file that loads the native addon. Options objects go in, results or a SystemError come out; what is asked is
 * checked by the callers. Every function that may wait in the kernel runs on a thread of its own (never on libuv's pool)
 * and returns a promise; the others only do calls that cannot block.
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import type {
  BlockMountOptions,
  BridgeOptions,
  ByteStream,
  DeviceOptions,
  FileRead,
  IdMaps,
  KernelFeatures,
  Link,
  LinkAddress,
  MonitorSocket,
  MonitorSocketHandlers,
  MountAttributes,
  NetworkChange,
  OverlayOptions,
  Queue,
  Route,
  RunningProgram,
  SampledFile,
  Sampler,
  SeccompProfile,
  SeriesFamily,
  SeriesText,
  SetElement,
  SpawnedProcess,
  SpawnedProgram,
  SpawnMonitorOptions,
  SystemError,
  TreeOptions,
  UsageWalk,
  VethOptions,
} from "./addon-types.js";

export type * from "./addon-types.js";

export function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && typeof (error as Partial<SystemError>).errnoName === "string";
}

/** Bits of ByteStream.listen() and of its callback. */
export const readable = 1;
export const writable = 2;

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
  /** takes the descriptor over (not when it throws); `onReady` gets the events of listen() that have come. It is held until
   *  close(), and so is what it refers to */
  ByteStream: new (
    fd: number,
    onReady: (events: number) => void,
  ) => ByteStream;
  /** close-on-exec; the caller's */
  duplicateDescriptor(fd: number): number;
  /** a Unix socket that sends datagrams to the path, for a ByteStream: each write is one. ENOENT, ECONNREFUSED: nobody is
   *  there */
  connectDatagram(path: string): number;

  // loopback_connect.cc
  /** a socket that is connected to the port on 127.0.0.1, or else ::1, of a network namespace ("": the host's); the
   *  caller's. The error is that of 127.0.0.1 */
  connectLoopback(options: { namespacePath: string; port: number }): Promise<number>;

  // mount.cc
  /** open_tree(OPEN_TREE_CLONE): a detached mount of the path */
  openTree(options: TreeOptions): Promise<number>;
  /** the same of several, on one thread, one after the other; when one fails there is none */
  openTrees(trees: readonly TreeOptions[]): Promise<number[]>;
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
  /** mkdir -p of each (modes 0755), then the writes in order; on failure removes what it made. Answers the parents that it
   *  made, the outermost first */
  createCgroups(options: { directories: string[]; writes: [path: string, value: string][] }): Promise<string[]>;
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

  // series_text.cc
  /** `widths`: the columns of each table */
  openSeriesText(families: readonly SeriesFamily[], widths: readonly number[]): SeriesText;

  // password.cc
  /** against a hash of crypt(5); false, too, when the hash is none */
  checkPassword(password: string, hash: string): Promise<boolean>;

  // processes.cc
  /** of the processes in each cgroup directory six numbers: open files, and how many of these are sockets; threads that run,
   *  sleep, are stopped, wait uninterruptibly. NaN: not known, or too many to look at */
  lookAtProcesses(directories: readonly string[]): Promise<Float64Array>;
  /** bytes of memory that are each process's own; NaN: it has ended */
  memoryOf(pids: readonly number[]): Promise<Float64Array>;

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
  /** the first bytes of a file at `from` or behind it that are no hole (SEEK_DATA, SEEK_HOLE); null: there are none, or the file
   *  does not tell. Moves the descriptor's position */
  nextData(options: { fd: number; from: number }): { start: number; end: number } | null;

  // inherit_directories.cc
  /** gives directories of a layer the mode, owner, time and attributes of the topmost directory of that path among the layers
   *  below; what is none is left alone. @param options.lower topmost first @param options.paths each ends with a NUL; the
   *  empty one is the layer's root. One that begins with a slash holds nothing but whiteouts: it goes when there is
   *  none below. Out of one that begins with two, whiteouts go when nothing below shows through. One that begins with three is a
   *  hard link to what only the layers below have, and becomes a copy. One that begins with four is what such a link leads
   *  to; ENOENT: they have no such file.
   *  @returns how many bytes were copied. EFBIG: more than the limit */
  inheritDirectories(options: {
    directory: string;
    lower: string[];
    paths: Buffer;
    limitBytes: number;
  }): Promise<number>;

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

  // device_mapper.cc: ENOENT of /dev/mapper/control: the kernel has none
  /** A device of one target. EBUSY: there is one of that name. EINVAL: the kernel has no such target, or it refuses the
   *  parameters. @returns its path */
  createDevice(options: DeviceOptions): Promise<string>;
  /** EBUSY when somebody has it open; deferred: then it goes with the last one. ENXIO: there is none */
  removeDevice(name: string, deferred: boolean): Promise<void>;
  /** its path, and what its target says of itself; ENXIO: there is none */
  deviceStatus(name: string): Promise<{ path: string; status: string }>;
  /** to its target; ENXIO: there is none */
  messageDevice(name: string, message: string): Promise<void>;
  listDevices(): Promise<string[]>;

  // block_mount.cc
  /** a file as a block device, until the last descriptor of that is closed. @param options.direct past the kernel's cache */
  attachLoop(options: { path: string; direct: boolean }): Promise<{ fd: number; device: string }>;
  blockDeviceSize(path: string): Promise<number>;
  /** of all its content. @param fd writable */
  discardDevice(fd: number): Promise<void>;
  /** a detached mount of a file system that lies on a block device, or of a part of it */
  mountBlock(options: BlockMountOptions): Promise<number>;

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

  // remove_tree.cc
  /** removes a directory with all that is in it, however deep, but for what is mounted there (EXDEV); already gone is
   *  success. Where something cannot be removed it goes on, and the first such error is told */
  removeTree(path: string): Promise<void>;

  // seccomp.cc
  /** the native architecture's filter as an array of struct sock_filter; unknown syscall names are left out. Where the
   *  default action refuses, calls newer than all that the profile names are answered ENOSYS. EINVAL or EOPNOTSUPP
   *  (SCMP_ACT_NOTIFY) names the field in `subject` */
  compileSeccomp(profile: SeccompProfile): Buffer;

  // seccomp_denials.cc
  /** tells what the kernel's audit has recorded of seccomp, in its words, at most 16 at a time, and after that nothing until
   *  `resume`. Does not keep the event loop alive. EPERM without CAP_AUDIT_READ; a kernel without audit: EPROTONOSUPPORT */
  watchSeccompDenials(onRecords: (records: string[]) => void): { resume(): void; close(): void };
  /** as the kernel's headers call it; its number when libseccomp does not know it */
  syscallName(call: { architecture: number; number: number }): string;

  // netlink.cc
  /** makes the bridge (or adopts one of that name), gives it the addresses, sets it up; EEXIST: another kind of interface
   *  has the name */
  ensureBridge(options: BridgeOptions): Promise<void>;
  /** takes away what ensureBridge, also an earlier agent's, has given the bridge beside these CIDRs; others' addresses stay */
  removeOlderAddresses(options: { bridge: string; wanted: string[] }): Promise<void>;
  /** loopback up in a network namespace */
  setLoopbackUp(namespaceFd: number): Promise<void>;
  /** veth with both ends up, lo up, addresses, default routes, hairpin on the bridge's port; on failure leaves nothing */
  attachVeth(options: VethOptions): Promise<void>;
  /** makes interfaces of the host ports of the bridge, with hairpin; those that have gone are passed over */
  joinBridge(options: { bridge: string; interfaces: string[] }): Promise<void>;
  /** the kernel's number of the host's interface: one that is made again has another. 0: there is none. Unlike sysfs it does not know
   *  one any more that is just being deleted */
  linkIndex(name: string): number;
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
  /** tells of every interface of the host that goes, is set down or leaves a bridge, of addresses that are taken from the bridge,
   *  and of what is taken from the inet table, by whomsoever. Does not keep the event loop alive */
  watchNetwork(
    options: { bridge: string; table: string },
    onChange: (change: NetworkChange) => void,
  ): { close(): void };

  // nftables.cc
  /** runs a libnftables JSON document in one transaction; answers its JSON output (empty when it asks for none) */
  runNftables(json: string): Promise<string>;

  // unused_memory.cc
  /** gives back to the kernel what malloc has kept, and maps of Node's executable only what runs from now on */
  releaseUnusedMemory(): Promise<void>;

  // nft_elements.cc
  /** adds elements to sets and maps of an inet table, or removes them, all or none; there already, or gone, is success.
   *  ENOENT: there is no such table or set; EEXIST: a key is there with another value */
  changeSetElements(options: { table: string; remove: boolean; elements: readonly SetElement[] }): Promise<void>;

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

  // service_manager.cc
  /** a datagram to $NOTIFY_SOCKET (a path, or an abstract name after "@"): sd_notify(3) */
  notifyServiceManager(address: string, text: string): Promise<void>;
  /** makes a socket that systemd has passed close-on-exec, and answers its path. EINVAL: it is no listening unix stream
   *  socket */
  takeListener(fd: number): string;

  // lock.cc
  /** flock(LOCK_EX|LOCK_NB) on a directory, or on a file, which it makes; the descriptor holds the lock. EAGAIN: somebody has it */
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
