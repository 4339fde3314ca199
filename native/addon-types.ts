/** What goes into the native addon's functions and comes out of them; the functions are in binding.ts. */

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

/** A pipe's end, a terminal's master or a socket that never blocks. */
export interface ByteStream {
  /** bytes read; 0: there is nothing now; -1: nothing will come any more; -2: nor will what was still to come (a socket was reset) */
  read(into: Uint8Array): number;
  /** bytes taken; 0: there is no room now; -1: nobody reads any more */
  write(from: Uint8Array): number;
  /** what the callback is called for from here on, again and again; 0: nothing */
  listen(events: number): void;
  /** bytes can be read at this moment */
  hasInput(): boolean;
  /** a terminal's size */
  resize(columns: number, rows: number): void;
  /** of TCP: a silent peer that has vanished without a word is missed after twice so many seconds; reading fails then */
  watchPeer(seconds: number): void;
  /** of TCP: bytes written that the peer's kernel has not taken yet; the end counts as one */
  unacknowledged(): number;
  /** of TCP: for how long nothing was heard of the peer's kernel */
  silentMs(): number;
  /** a socket's peer is told that nothing more comes */
  endOutput(): void;
  close(): void;
}

/** A mount that is cloned. */
export interface TreeOptions {
  path: string;
  /** the path is resolved within it (RESOLVE_IN_ROOT) */
  root?: string;
  recursive: boolean;
  attributes?: MountAttributes;
  /** ids are shown as this user namespace maps them, below the top mount where the file systems can. EINVAL: the file
   *  system cannot; EPERM: its ids are mapped already */
  userNamespaceFd?: number;
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

export interface DeviceOptions {
  name: string;
  /** "thin", "thin-pool", ... */
  target: string;
  parameters: string;
  /** of 512 bytes */
  sectors: number;
  readOnly?: boolean;
}

export interface BlockMountOptions {
  /** absolute */
  device: string;
  /** "ext4", ... */
  type: string;
  /** "key" or "key=value" */
  options?: string[];
  readOnly?: boolean;
  /** of this mount alone: the file system may be mounted elsewhere, where it is written to */
  mountReadOnly?: boolean;
  /** only this directory or file of it, resolved within it (RESOLVE_IN_ROOT) */
  subPath?: string;
  /** files show their ids as this user namespace maps them */
  userNamespaceFd?: number;
  /** SELinux label of all its files (the mount option `context`) */
  context?: string;
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

/** Of nftables, as the kernel compares them: in a key of several parts, each is filled up to four bytes. */
export interface SetElement {
  set: string;
  key: Uint8Array;
  /** of a map */
  value?: Uint8Array;
}

export interface NetworkChange {
  /** "missed": there were more changes than the kernel could queue */
  kind: "link-gone" | "link-down" | "port-gone" | "address-gone" | "table-changed" | "missed";
  /** of the interface or the table; the bridge's address that has gone, with its prefix; empty for "missed" */
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
  /** the one value of the file stands for its whole text: another text, another value; it has no keys */
  fingerprint?: boolean;
  /** it is not read in a pass without details */
  detail?: boolean;
  /** its values change whenever the cgroup's processes run, come or go */
  pulse?: boolean;
  /** a detail whose values change with a pulse, and shortly after it, alone: a cgroup in which two passes have found none has
   *  it not read again. The pulses come before it in the list */
  steady?: boolean;
  /** a value each: "" is the file's one number, "name" the word after the name at a line's beginning, "word name" what stands
   *  after "name=" in the line that begins with the word. Numbers are multiplied by the factor */
  keys: { key: string; factor?: number }[];
}

/** Reads those files of many cgroups in one pass; descriptors stay open from pass to pass. */
export interface Sampler {
  /** for each path a row: the time of its reading (nanoseconds since the epoch), and a value for each file's keys in order.
   *  NaN: the kernel does not tell it (or the cgroup is gone, or
   *  it is a detail that was not asked for); Infinity: "max" */
  sample(paths: readonly string[], details: boolean): Promise<Float64Array>;
  /** the cgroup was removed: the next pass closes its files */
  forget(path: string): void;
}

/** A family of Prometheus' series: columns of a table. */
export interface SeriesFamily {
  /** its # lines, written when there is a series */
  heading: string;
  name: string;
  /** which of the tables */
  table: number;
  /** `labels` follow the row's: `,name="value"` each */
  columns: { column: number; labels: string }[];
}

/** Writes text on a thread of its own, and compresses it there with gzip when it is to. */
export interface SeriesText {
  write(gzip: boolean): {
    /** rows of a table: of each the labels as they stand between the braces, and a value a column; NaN: there is no such
     *  series. The values are copied. All rows come before the first piece */
    add(table: number, labels: readonly string[], values: Float64Array): void;
    /** writes the next piece; its length. 0: that was all. One is asked for after the other */
    next(): Promise<number>;
    /** writes the last piece, when next() has none any more: this text, and what was left to be compressed */
    finish(text: string): Promise<number>;
    /** copies what is left of the piece, as much of it as there is room for; how many bytes */
    take(into: Buffer): number;
  };
}

/** One result of readFiles: the content, or errno's name. */
export type FileRead = { content: string } | { errnoName: string };
