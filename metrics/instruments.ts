/**
 * Every metric that Berth tells: name, help, labels. Those of containers and pods have cAdvisor's names and labels, so
 * that dashboards and rules written for the kubelet's /metrics/cadvisor work as they are.
 */

export interface Instrument {
  name: string;
  help: string;
  type: "gauge" | "counter" | "histogram";
  labels: readonly string[];
  /** upper bounds of a histogram */
  buckets?: readonly number[];
}

/** `id` is the cgroup's path, `name` the CRI's id, `container` the name in the pod's spec (empty for the pod itself). */
export const subjectLabels = ["container", "id", "image", "name", "namespace", "pod"] as const;

/** A metric that is one value of a container's cgroup, in the sample's unit divided by `divisor`. */
export interface CgroupInstrument extends Instrument {
  type: "gauge" | "counter";
  field: string;
  divisor?: number;
  /** labels with a fixed value, beside the subject's */
  fixed?: Record<string, string>;
  /** told when the kernel knows none: no limit is 0, as cAdvisor has it */
  absent?: number;
}

const gauge = (name: string, field: string, help: string, more: Partial<CgroupInstrument> = {}) =>
  ({ name, field, help, type: "gauge", labels: subjectLabels, ...more }) as const;

const counter = (name: string, field: string, help: string, more: Partial<CgroupInstrument> = {}) =>
  ({ ...gauge(name, field, help, more), type: "counter" }) as const;

// a division is exact to the last digit, where a multiplication by 1e-9 is not
const nanoseconds = { divisor: 1e9 };

const totalCpu = { fixed: { cpu: "total" }, labels: [...subjectLabels, "cpu"] };

const pageFault = (kind: string) => ({
  fixed: { failure_type: kind, scope: "hierarchy" },
  labels: [...subjectLabels, "failure_type", "scope"],
});

/** Two rows of one name are series of one metric that differ in their fixed labels. */
export const cgroupInstruments: readonly CgroupInstrument[] = [
  counter("container_cpu_usage_seconds_total", "cpuUsageNs", "CPU time used", { ...nanoseconds, ...totalCpu }),
  counter("container_cpu_user_seconds_total", "cpuUserNs", "CPU time used in user mode", nanoseconds),
  counter("container_cpu_system_seconds_total", "cpuSystemNs", "CPU time used in the kernel", nanoseconds),
  counter("container_cpu_cfs_periods_total", "cpuPeriods", "Enforcement periods of the CPU quota that have passed"),
  counter(
    "container_cpu_cfs_throttled_periods_total",
    "cpuThrottledPeriods",
    "Periods in which the container was held back by its CPU quota",
  ),
  counter(
    "container_cpu_cfs_throttled_seconds_total",
    "cpuThrottledNs",
    "Time for which the container was held back by its CPU quota",
    nanoseconds,
  ),
  gauge(
    "container_memory_usage_bytes",
    "memoryUsageBytes",
    "Memory in use, file pages included: memory.usage_in_bytes of cgroup v1, memory.current of v2",
  ),
  gauge(
    "container_memory_working_set_bytes",
    "memoryWorkingSetBytes",
    "Memory in use less inactive file pages: what the kubelet's evictions look at",
  ),
  gauge("container_memory_rss", "memoryRssBytes", "Anonymous memory"),
  gauge("container_memory_cache", "memoryCacheBytes", "File pages"),
  gauge("container_memory_mapped_file", "memoryMappedFileBytes", "File pages that are mapped"),
  gauge("container_memory_kernel_usage", "memoryKernelBytes", "Memory that the kernel uses for the container"),
  gauge("container_memory_max_usage_bytes", "memoryMaxUsageBytes", "The most memory that was ever in use"),
  gauge("container_memory_swap", "swapUsageBytes", "Swap in use"),
  counter("container_memory_failcnt", "memoryFailures", "How often the memory limit was reached"),
  counter("container_memory_failures_total", "pageFaults", "Page faults, minor and major", pageFault("pgfault")),
  counter(
    "container_memory_failures_total",
    "majorPageFaults",
    "Page faults, minor and major",
    pageFault("pgmajfault"),
  ),
  counter("container_oom_events_total", "oomKills", "Processes killed because the memory limit was reached"),
  gauge("container_spec_memory_limit_bytes", "memoryLimitBytes", "Memory limit; 0: none", { absent: 0 }),
  gauge("container_spec_memory_swap_limit_bytes", "swapLimitBytes", "Swap limit; 0: none", { absent: 0 }),
  gauge("container_processes", "processes", "Processes"),
  gauge("container_threads", "threads", "Threads"),
  gauge("container_threads_max", "pidsLimit", "The most threads that may be; 0: any number", { absent: 0 }),
];

const interfaceLabels = [...subjectLabels, "interface"];

/** Of the pod's interfaces, as the pod sees them. */
export const networkInstruments = [
  ["container_network_receive_bytes_total", "rxBytes", "Bytes received"],
  ["container_network_receive_packets_total", "rxPackets", "Packets received"],
  ["container_network_receive_errors_total", "rxErrors", "Errors while receiving"],
  ["container_network_receive_packets_dropped_total", "rxDropped", "Received packets that were dropped"],
  ["container_network_transmit_bytes_total", "txBytes", "Bytes sent"],
  ["container_network_transmit_packets_total", "txPackets", "Packets sent"],
  ["container_network_transmit_errors_total", "txErrors", "Errors while sending"],
  ["container_network_transmit_packets_dropped_total", "txDropped", "Packets to send that were dropped"],
].map(([name, field, help]) => ({ name, field, help, type: "counter", labels: interfaceLabels }) as NetworkInstrument);

export interface NetworkInstrument extends Instrument {
  type: "counter";
  field: "rxBytes" | "rxPackets" | "rxErrors" | "rxDropped" | "txBytes" | "txPackets" | "txErrors" | "txDropped";
}

/** Metrics that are known from the container's record. */
export const recordInstruments = {
  startTime: {
    name: "container_start_time_seconds",
    help: "When the container started, since the epoch",
    type: "gauge",
    labels: subjectLabels,
  },
  lastSeen: {
    name: "container_last_seen",
    help: "When the container was last looked at, since the epoch",
    type: "gauge",
    labels: subjectLabels,
  },
  cpuShares: { name: "container_spec_cpu_shares", help: "CPU shares", type: "gauge", labels: subjectLabels },
  cpuQuota: {
    name: "container_spec_cpu_quota",
    help: "CPU quota of a period, in microseconds",
    type: "gauge",
    labels: subjectLabels,
  },
  cpuPeriod: {
    name: "container_spec_cpu_period",
    help: "Period of the CPU quota, in microseconds",
    type: "gauge",
    labels: subjectLabels,
  },
} as const satisfies Record<string, Instrument>;

/** Half a millisecond to five minutes: an exec probe takes two milliseconds, a pull of a large image minutes. */
const durationBuckets = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300];

/** Berth's own. */
export const berthInstruments = {
  buildInfo: {
    name: "berth_build_info",
    help: "1, with the version",
    type: "gauge",
    labels: ["version", "node_version"],
  },
  callDuration: {
    name: "berth_call_duration_seconds",
    help: "How long calls of the CRI took",
    type: "histogram",
    labels: ["method"],
    buckets: durationBuckets,
  },
  callErrors: {
    name: "berth_call_errors_total",
    help: "Calls of the CRI that failed, by gRPC status",
    type: "counter",
    labels: ["method", "code"],
  },
  stepDuration: {
    name: "berth_step_duration_seconds",
    help: "How long the steps of operations on pods, containers and images took",
    type: "histogram",
    labels: ["operation", "step"],
    buckets: durationBuckets,
  },
  pods: { name: "berth_pods", help: "Pod sandboxes", type: "gauge", labels: ["state"] },
  containers: { name: "berth_containers", help: "Containers", type: "gauge", labels: ["state"] },
  exits: {
    name: "berth_container_exits_total",
    help: "Containers that ended since the agent started",
    type: "counter",
    labels: ["reason"],
  },
  oomNotices: {
    name: "berth_oom_notices_total",
    help: "Notices of the kernel since the agent started that it killed for memory",
    type: "counter",
    labels: [],
  },
  monitorsLost: {
    name: "berth_monitors_lost_total",
    help: "Monitors that ended without being told to",
    type: "counter",
    labels: [],
  },
  pullsInFlight: {
    name: "berth_image_pulls_in_flight",
    help: "Pulls of images that run; prefetches have low priority",
    type: "gauge",
    labels: ["priority"],
  },
  pullErrors: {
    name: "berth_image_pull_errors_total",
    help: "Pulls of images that failed, by gRPC status; callers that share a pull count once",
    type: "counter",
    labels: ["kind"],
  },
  pullBytes: {
    name: "berth_image_pull_bytes_total",
    help: "Bytes of layers that registries (or archives) have sent, compressed as they come",
    type: "counter",
    labels: [],
  },
  repaired: {
    name: "berth_repaired_total",
    help: "Things that a crash left, found and removed",
    type: "counter",
    labels: ["what"],
  },
  restored: {
    name: "berth_restored_total",
    help: "Things of the pod network that another program removed or changed, and that were made again",
    type: "counter",
    labels: [],
  },
  troubles: {
    name: "berth_troubles_total",
    help: "Removals and undo steps that failed and will be tried again",
    type: "counter",
    labels: ["what"],
  },
  collectDuration: {
    name: "berth_collect_duration_seconds",
    help: "How long reading the statistics took, for this very answer",
    type: "gauge",
    labels: [],
  },
} as const satisfies Record<string, Instrument>;

/** The agent's process, under the names that all Prometheus clients use. */
export const processInstruments = {
  cpu: {
    name: "process_cpu_seconds_total",
    help: "CPU time of the agent, user and system",
    type: "counter",
    labels: [],
  },
  residentMemory: {
    name: "process_resident_memory_bytes",
    help: "Resident memory of the agent",
    type: "gauge",
    labels: [],
  },
  openDescriptors: { name: "process_open_fds", help: "Open file descriptors of the agent", type: "gauge", labels: [] },
  startTime: {
    name: "process_start_time_seconds",
    help: "When the agent started, since the epoch",
    type: "gauge",
    labels: [],
  },
  heapUsed: { name: "nodejs_heap_size_used_bytes", help: "JavaScript heap in use", type: "gauge", labels: [] },
} as const satisfies Record<string, Instrument>;
