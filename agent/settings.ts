/**
 * What can be set, by flag (`--cgroup-root /x`) or by the same word in the configuration file (`cgroup-root = "/x"`).
 * This table has no imports: the command line reads it before anything is loaded.
 */
export type SettingName =
  | "listen"
  | "kube-socket"
  | "kube-group"
  | "run"
  | "root"
  | "metrics"
  | "metrics-web-config"
  | "metrics-pod-labels"
  | "streams"
  | "streams-cert"
  | "streams-key"
  | "registries"
  | "cni-conf"
  | "cni-bin"
  | "cni-cache"
  | "cdi-dirs"
  | "hooks-dir"
  | "spec-hooks"
  | "network"
  | "bridge"
  | "subnet"
  | "cgroup-driver"
  | "cgroup-root"
  | "netns-dir"
  | "storage-driver"
  | "devmapper-device"
  | "devmapper-size"
  | "devmapper-root-size"
  | "writable-layer-limit"
  | "pinned-images"
  | "log-line-bytes"
  | "log-rate"
  | "log-level"
  | "log-areas"
  | "traces";

export interface Setting {
  readonly argument: string;
  readonly help: string;
  /** null: made from another setting */
  readonly default: string | null;
  /** in the file it is a number */
  readonly number?: true;
  /** a change in the file counts at once (SIGHUP, or within seconds); others with the agent's next start */
  readonly live?: true;
}

/** What the configuration file can have beside settings. */
export interface SettingTable {
  readonly name: string;
  readonly help: string;
  /** lines of TOML that show it */
  readonly example: readonly string[];
}

export const settings: Readonly<Record<SettingName, Setting>> = {
  listen: {
    argument: "unix:///PATH",
    help: "the CRI socket; RUN/berth.sock when it is not given",
    // follows --run, so that an agent on private paths needs one flag fewer
    default: null,
  },
  "kube-socket": {
    argument: "unix:///PATH",
    help: 'a second socket, for "berth kube" without root: the few calls that it makes, and no others; "off": none',
    // whoever may call the CRI is root on this node: a process that holds cluster credentials should not be
    default: "off",
  },
  "kube-group": {
    argument: "GROUP",
    help: "who may connect to kube-socket, beside root: a group's name or number",
    default: "berth-kube",
  },
  run: {
    argument: "DIR",
    help: "pods' run directories, gone after a reboot",
    // /run is a tmpfs: what is in it cannot outlive the processes that it is about
    default: "/run/berth",
  },
  root: {
    argument: "DIR",
    help: "records, layers and images, kept over a reboot",
    default: "/var/lib/berth",
  },
  metrics: {
    argument: "HOST:PORT|unix:///PATH",
    help: 'where /metrics is served; "off": nowhere',
    // loopback: names of pods and images are nobody's business until somebody says so
    default: "127.0.0.1:9464",
  },
  "metrics-web-config": {
    argument: "FILE",
    help: 'TLS, client certificates and passwords of /metrics, as Prometheus\' exporters read them; "off": plain HTTP',
    default: "off",
  },
  "metrics-pod-labels": {
    argument: "LABEL[=NAME][,...]",
    help: "pods' labels that their series on /metrics have, too: as label_LABEL, or as NAME; 16 at most",
    // each value is a series more: what is worth it is for the administrator to say
    default: "",
  },
  streams: {
    argument: "HOST:PORT",
    help: 'where exec, attach and port-forward are served to the kubelet; "off": nowhere',
    // loopback, any port: the kubelet is on this node, and is told the port with each call
    default: "127.0.0.1:0",
  },
  "streams-cert": {
    argument: "FILE",
    help: "PEM: streams are served over TLS with this certificate and those behind it; a renewed one counts at once",
    // on loopback there is nobody to hide from
    default: "",
  },
  "streams-key": {
    argument: "FILE",
    help: "PEM: the key of streams-cert",
    default: "",
  },
  registries: {
    argument: "DIR[:DIR...]",
    help: "registry hosts, a directory HOST/hosts.toml each; the first DIR that knows a host counts",
    default: "/etc/berth/certs.d",
  },
  "cni-conf": {
    argument: "DIR",
    help: "CNI network configurations",
    // where every CNI installer writes
    default: "/etc/cni/net.d",
  },
  "cni-bin": {
    argument: "DIR[,DIR...]",
    help: "CNI plugins; the first directory that has one counts",
    // where CNI's installers put them, then where Debian's package does
    default: "/opt/cni/bin,/usr/lib/cni",
  },
  "cni-cache": {
    argument: "DIR",
    help: "what CNI plugins have attached, for other programs to read",
    // libcni's own
    default: "/var/lib/cni",
  },
  "cdi-dirs": {
    argument: "DIR[,DIR...]",
    help: "Container Device Interface files; the later directories count more",
    // the specification's own: what the administrator wrote, then what drivers made since the boot
    default: "/etc/cdi,/var/run/cdi",
    live: true,
  },
  "hooks-dir": {
    argument: "DIR",
    help: 'OCI hooks, a JSON file each (hooks.d 1.0.0); "off": none',
    // what runs as root beside every container is for the administrator to name
    default: "off",
    live: true,
  },
  "spec-hooks": {
    argument: "FILE[,FILE...]",
    help: "JavaScript modules that may adjust containers' OCI specs, one after the other (docs/spec-hooks.md)",
    // they decide over every container of the node
    default: "",
  },
  network: {
    argument: "auto|builtin|cni|none",
    help: "who gives pods their network; auto: CNI where cni-conf has a configuration, otherwise the built-in one",
    // a cluster's network is used as soon as it is installed; without one a pod needs nothing, and is up in milliseconds
    default: "auto",
  },
  bridge: {
    argument: "NAME",
    help: "the built-in network's bridge",
    default: "berth0",
  },
  subnet: {
    argument: "CIDR[,CIDR6]",
    help: "the built-in network's addresses, until the kubelet sets a pod CIDR",
    // private, and seldom a site's own range; clusters bring their own pod CIDR
    default: "10.88.0.0/16",
  },
  "cgroup-driver": {
    argument: "cgroupfs|systemd",
    help: "who makes cgroups",
    // works on every host, with or without systemd as PID 1; the kubelet asks RuntimeConfig and follows
    default: "cgroupfs",
  },
  "cgroup-root": {
    argument: "PATH",
    help: "cgroup of the pods whose config names no parent; /berth, or the slice /berth.slice with systemd",
    // follows --cgroup-driver
    default: null,
  },
  "netns-dir": {
    argument: "DIR",
    help: "where pods' network namespaces are pinned",
    // where `ip netns` and CNI plugins look
    default: "/run/netns",
  },
  "storage-driver": {
    argument: "overlay|btrfs|copy|devmapper",
    help: "how layers and containers' root file systems lie on the disk",
    // on every kernel, on nearly every file system, and a container costs two directories
    default: "overlay",
  },
  "devmapper-device": {
    argument: "DEVICE",
    help: "the block device for devmapper's blocks, empty at first; a sparse file in the state directory when it is not given",
    // a file needs nothing to be prepared
    default: "",
  },
  "devmapper-size": {
    argument: "SIZE",
    help: "of devmapper's file",
    // it takes what is written to it; LVM's and Docker's
    default: "100Gi",
  },
  "devmapper-root-size": {
    argument: "SIZE",
    help: "of devmapper's file systems, each container's root; that of the first start counts",
    default: "10Gi",
  },
  "writable-layer-limit": {
    argument: "SIZE",
    help: "how much a container may write to its root; a pod's annotation berth.dev/writable-layer-limit asks for less",
    // the kubelet sees to limits of ephemeral storage by evicting; and most file systems are mounted without quotas
    default: "",
    live: true,
  },
  "pinned-images": {
    argument: "NAME[,NAME...]",
    help: 'images that neither the kubelet nor "berth image prune" removes; a name may end with *',
    // a node without pods needs none of its images
    default: "",
    live: true,
  },
  "log-line-bytes": {
    argument: "N",
    help: "of containers' logs: longer lines are written in parts; 131072 at most",
    // what every reader of CRI logs knows, the kubelet's included
    default: "16384",
    number: true,
    live: true,
  },
  "log-rate": {
    argument: "BYTES",
    help: "what each container may write to its log in a second; who writes more has to wait. 0: no limit",
    // a program that waits for its log may miss a deadline of its own: that is for the administrator to decide
    default: "0",
    number: true,
    live: true,
  },
  "log-level": {
    argument: "debug|info|warn|error",
    help: "what is written to stderr; debug has a line for every call",
    default: "info",
    live: true,
  },
  "log-areas": {
    argument: "AREA=LEVEL[,...]",
    help: "levels of their own: calls (a line for each), steps (of what calls do), events (what happens beside them)",
    // one level for all is what everybody expects
    default: "",
    live: true,
  },
  traces: {
    argument: "URL",
    help: 'where spans of calls go, OTLP/HTTP in JSON, as http://127.0.0.1:4318/v1/traces; "off": nowhere',
    // who has no collector should not pay for spans
    default: "off",
  },
};

/** All of them count at once when they change. */
export const settingTables: readonly SettingTable[] = [
  {
    name: "rlimits",
    help: 'limits (getrlimit(2)) that containers\' programs begin with: "SOFT:HARD", or one number for both, or "unlimited"',
    example: ["[rlimits]", 'nofile = "1024:524288"'],
  },
  {
    name: "runtimes",
    help: "OCI runtimes, by the handler of a RuntimeClass: path, arguments, and how many seconds a command may take",
    example: ["[runtimes.runc]", 'path = "/usr/sbin/runc"', "arguments = []", "timeout = 30"],
  },
  {
    name: "blockio",
    help: "block-IO classes, which pods ask for by the annotation blockio.resources.beta.kubernetes.io/pod",
    example: ["[[blockio.slow]]", 'devices = ["/dev/sd[a-z]"]', 'throttle-read-bps = "60M"'],
  },
  {
    name: "rdt",
    help: "classes of Intel's Resource Director, which pods ask for by the annotation rdt.resources.beta.kubernetes.io/pod",
    example: ["[rdt.gold]", 'schemata = ["L3:0=ff0"]'],
  },
];

export const defaultConfigFile = "/etc/berth/config.toml";
