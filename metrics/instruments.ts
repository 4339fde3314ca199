/**
 * The metrics that Berth tells of itself: name, help, labels. Those of containers and pods are in families.ts.
 */

export interface Instrument {
  name: string;
  help: string;
  type: "gauge" | "counter" | "histogram";
  labels: readonly string[];
  /** upper bounds of a histogram */
  buckets?: readonly number[];
}

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
  networkRemovals: {
    name: "berth_network_removals_pending",
    help: "Networks of pods that have ended, and are still to be taken away: by the kernel, or by CNI plugins",
    type: "gauge",
    labels: [],
  },
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
  logDropped: {
    name: "berth_log_dropped_bytes_total",
    help: "Bytes of containers' log records that could not be written since the agent started, as on a full disk",
    type: "counter",
    labels: [],
  },
  execDropped: {
    name: "berth_exec_output_dropped_bytes_total",
    help: "Bytes of ExecSync's output since the agent started that were more than an answer can carry",
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
  monitorsMemory: {
    name: "berth_monitors_memory_bytes",
    help: "Memory of all pods' monitors, without what they share",
    type: "gauge",
    labels: [],
  },
  largestMonitor: {
    name: "berth_monitor_largest_memory_bytes",
    help: "Memory of the monitor that has the most, without what it shares",
    type: "gauge",
    labels: [],
  },
  storeRecords: {
    name: "berth_store_records",
    help: "Records that are kept on the disk",
    type: "gauge",
    labels: ["kind"],
  },
  storeWriteDuration: {
    name: "berth_store_write_duration_seconds",
    help: "How long the agent's event loop waited for a record, or a change of one, to be written",
    type: "histogram",
    labels: [],
    buckets: [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1],
  },
  storeWriteFailures: {
    name: "berth_store_write_failures_total",
    help: "Records and changes that could not be written, as on a full disk",
    type: "counter",
    labels: [],
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
  eventLoopLag: {
    name: "berth_event_loop_lag_seconds",
    help: "How long the agent's event loop took to come round, since the last answer",
    type: "gauge",
    labels: ["quantile"],
  },
  gcDuration: {
    name: "nodejs_gc_duration_seconds",
    help: "How long the agent's garbage collections took, by kind",
    type: "histogram",
    labels: ["kind"],
    buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1],
  },
  heapTotal: { name: "nodejs_heap_size_total_bytes", help: "JavaScript heap", type: "gauge", labels: [] },
  externalMemory: {
    name: "nodejs_external_memory_bytes",
    help: "Memory outside of the JavaScript heap that its objects hold, buffers included",
    type: "gauge",
    labels: [],
  },
  heapUsed: { name: "nodejs_heap_size_used_bytes", help: "JavaScript heap in use", type: "gauge", labels: [] },
} as const satisfies Record<string, Instrument>;
