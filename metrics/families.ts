/**
 * The metrics of containers and pods. They have cAdvisor's names and labels, so that dashboards and rules written for the
 * kubelet's /metrics/cadvisor work as they are.
 */
import type { LinkStatistics } from "../native/binding.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { DeviceIo } from "./device-io.js";
import type { HugePages } from "./huge-pages.js";
import type { Instrument } from "./instruments.js";
import { type Subject, subjectLabels } from "./subjects.js";

/** What a row of a family's series is about: a subject, or one of the things that it has several of. */
export interface Kind<Item> {
  /** of a row, behind the subject's */
  readonly labels: readonly string[];
  rows(subject: Subject): readonly Item[];
  /** the values of these labels */
  label(item: Item): readonly string[];
}

/** A series of each row. */
export interface Column<Item> {
  /** the values of the family's labels that are the column's own */
  readonly labels: readonly string[];
  /** undefined: there is none */
  value(item: Item): number | undefined;
}

export interface Family extends Instrument {
  readonly type: "gauge" | "counter";
  readonly kind: Kind<unknown>;
  /** the names of the columns' labels */
  readonly columnLabels: readonly string[];
  readonly columns: readonly Column<unknown>[];
}

type Type = Family["type"];
type Field = Exclude<keyof CgroupSample, "timestamp">;

const unlabelled: readonly string[] = [];

function perSubject(has: (subject: Subject) => boolean): Kind<Subject> {
  return {
    labels: [],
    rows: (subject) => (has(subject) ? [subject] : []),
    label: () => unlabelled,
  };
}

const cgroups = perSubject(({ cgroup }) => cgroup !== undefined);
const containers = perSubject(({ container }) => container !== undefined);
/** The file system that a container writes to. */
const disks: Kind<Subject> = {
  labels: ["device"],
  rows: (subject) => (subject.space === undefined ? [] : [subject]),
  label: ({ space }) => [space?.device ?? ""],
};
const links: Kind<LinkStatistics> = {
  labels: ["interface"],
  rows: (subject) => subject.links ?? [],
  label: ({ name }) => [name],
};
const devices: Kind<DeviceIo> = {
  labels: ["device"],
  rows: ({ io = [] }) => io,
  label: ({ device }) => [device],
};
const pageSizes: Kind<HugePages> = {
  labels: ["pagesize"],
  rows: ({ hugePages = [] }) => hugePages,
  label: ({ pageSize }) => [pageSize],
};
const numberedDevices: Kind<DeviceIo> = {
  labels: ["device", "major", "minor"],
  rows: ({ io = [] }) => io,
  label: ({ device, major, minor }) => [device, major, minor],
};

/** Of each table a column is asked for by its place in this list. */
export const kinds: readonly Kind<unknown>[] = [cgroups, containers, disks, links, devices, numberedDevices, pageSizes];

function family<Item>(
  kind: Kind<Item>,
  type: Type,
  name: string,
  help: string,
  columnLabels: readonly string[],
  columns: readonly Column<Item>[],
): Family {
  return { name, help, type, labels: [...subjectLabels, ...kind.labels, ...columnLabels], kind, columnLabels, columns };
}

function single<Item>(kind: Kind<Item>, type: Type, name: string, help: string, value: Column<Item>["value"]): Family {
  return family(kind, type, name, help, [], [{ labels: unlabelled, value }]);
}

/** One value of the cgroup. A division is exact to the last digit, where a multiplication by 1e-9 is not. */
function cgroup(type: Type, name: string, field: Field, help: string, divisor = 1): Family {
  return single(cgroups, type, name, help, (subject) => {
    const value = subject.cgroup?.[field];
    return value === undefined ? undefined : value / divisor;
  });
}

/** No limit is 0, as cAdvisor has it. */
function limit(name: string, field: Field, help: string): Family {
  return single(cgroups, "gauge", name, help, (subject) => subject.cgroup?.[field] ?? 0);
}

function link(name: string, field: Exclude<keyof LinkStatistics, "name">, help: string): Family {
  return single(links, "counter", name, help, (one) => one[field]);
}

function io(name: string, field: "readBytes" | "writtenBytes" | "reads" | "writes", help: string): Family {
  return single(devices, "counter", name, help, (one) => one[field]);
}

function resources({ container }: Subject) {
  return container?.record.spec?.linux.resources;
}

/** Of a cgroup alone, or of all below it, too: v2 counts the latter only. */
function faults(type: string, scope: string, field: Field, otherwise: Field): Column<Subject> {
  return { labels: [type, scope], value: ({ cgroup: sample }) => sample?.[field] ?? sample?.[otherwise] };
}

const pressure = (["cpu", "memory", "io"] as const).flatMap((resource) => [
  cgroup(
    "counter",
    `container_pressure_${resource}_waiting_seconds_total`,
    `${resource}SomeNs`,
    `Time for which some task has waited for ${resource}`,
    1e9,
  ),
  cgroup(
    "counter",
    `container_pressure_${resource}_stalled_seconds_total`,
    `${resource}FullNs`,
    `Time for which no task could go on for want of ${resource}`,
    1e9,
  ),
]);

export const families: readonly Family[] = [
  single(cgroups, "gauge", "container_last_seen", "When it was last looked at, since the epoch", (subject) =>
    subject.cgroup === undefined ? undefined : Math.floor(subject.cgroup.timestamp / 1e9),
  ),
  single(
    containers,
    "gauge",
    "container_start_time_seconds",
    "When the container started, since the epoch",
    ({ container }) => (container === undefined ? undefined : Number(container.record.startedAt.slice(0, -6)) / 1000),
  ),

  family(
    cgroups,
    "counter",
    "container_cpu_usage_seconds_total",
    "CPU time used",
    ["cpu"],
    [
      {
        labels: ["total"],
        value: ({ cgroup: sample }) => (sample?.cpuUsageNs === undefined ? undefined : sample.cpuUsageNs / 1e9),
      },
    ],
  ),
  cgroup("counter", "container_cpu_user_seconds_total", "cpuUserNs", "CPU time used in user mode", 1e9),
  cgroup("counter", "container_cpu_system_seconds_total", "cpuSystemNs", "CPU time used in the kernel", 1e9),
  cgroup(
    "counter",
    "container_cpu_cfs_periods_total",
    "cpuPeriods",
    "Enforcement periods of the CPU quota that have passed",
  ),
  cgroup(
    "counter",
    "container_cpu_cfs_throttled_periods_total",
    "cpuThrottledPeriods",
    "Periods in which the container was held back by its CPU quota",
  ),
  cgroup(
    "counter",
    "container_cpu_cfs_throttled_seconds_total",
    "cpuThrottledNs",
    "Time for which the container was held back by its CPU quota",
    1e9,
  ),

  cgroup(
    "gauge",
    "container_memory_usage_bytes",
    "memoryUsageBytes",
    "Memory in use, file pages included: memory.usage_in_bytes of cgroup v1, memory.current of v2",
  ),
  cgroup(
    "gauge",
    "container_memory_working_set_bytes",
    "memoryWorkingSetBytes",
    "Memory in use less inactive file pages: what the kubelet's evictions look at",
  ),
  cgroup("gauge", "container_memory_rss", "memoryRssBytes", "Anonymous memory"),
  cgroup("gauge", "container_memory_cache", "memoryCacheBytes", "File pages"),
  cgroup("gauge", "container_memory_mapped_file", "memoryMappedFileBytes", "File pages that are mapped"),
  cgroup("gauge", "container_memory_total_active_file_bytes", "memoryActiveFileBytes", "File pages lately used"),
  cgroup("gauge", "container_memory_total_inactive_file_bytes", "memoryInactiveFileBytes", "File pages long not used"),
  cgroup(
    "gauge",
    "container_memory_kernel_usage",
    "memoryKernelBytes",
    "Memory that the kernel uses for the container",
  ),
  cgroup("gauge", "container_memory_max_usage_bytes", "memoryMaxUsageBytes", "The most memory that was ever in use"),
  cgroup("gauge", "container_memory_swap", "swapUsageBytes", "Swap in use"),
  cgroup("counter", "container_memory_failcnt", "memoryFailures", "How often the memory limit was reached"),
  family(
    cgroups,
    "counter",
    "container_memory_failures_total",
    "Page faults, minor and major",
    ["failure_type", "scope"],
    [
      faults("pgfault", "container", "ownPageFaults", "pageFaults"),
      faults("pgfault", "hierarchy", "pageFaults", "pageFaults"),
      faults("pgmajfault", "container", "ownMajorPageFaults", "majorPageFaults"),
      faults("pgmajfault", "hierarchy", "majorPageFaults", "majorPageFaults"),
    ],
  ),
  cgroup("counter", "container_oom_events_total", "oomKills", "Processes killed because the memory limit was reached"),

  single(pageSizes, "gauge", "container_hugetlb_usage_bytes", "Huge pages in use", ({ usageBytes }) => usageBytes),
  single(
    pageSizes,
    "gauge",
    "container_hugetlb_max_usage_bytes",
    "The most huge pages that were ever in use",
    ({ maxUsageBytes }) => maxUsageBytes,
  ),
  single(
    pageSizes,
    "counter",
    "container_hugetlb_failcnt",
    "How often the limit of huge pages was reached",
    ({ failures }) => failures,
  ),

  single(containers, "gauge", "container_spec_cpu_shares", "CPU shares", (subject) => resources(subject)?.cpu?.shares),
  single(
    containers,
    "gauge",
    "container_spec_cpu_period",
    "Period of the CPU quota, in microseconds",
    (subject) => resources(subject)?.cpu?.period,
  ),
  single(containers, "gauge", "container_spec_cpu_quota", "CPU quota of a period, in microseconds", (subject) => {
    const quota = resources(subject)?.cpu?.quota;
    return quota !== undefined && quota > 0 ? quota : undefined;
  }),
  limit("container_spec_memory_limit_bytes", "memoryLimitBytes", "Memory limit; 0: none"),
  limit("container_spec_memory_swap_limit_bytes", "swapLimitBytes", "Swap limit; 0: none"),
  single(
    containers,
    "gauge",
    "container_spec_memory_reservation_limit_bytes",
    "Memory reservation; 0: none",
    (subject) => Math.max(0, resources(subject)?.memory?.reservation ?? 0),
  ),

  cgroup("gauge", "container_processes", "processes", "Processes"),
  cgroup("gauge", "container_threads", "threads", "Threads"),
  limit("container_threads_max", "pidsLimit", "The most threads that may be; 0: any number"),
  single(
    containers,
    "gauge",
    "container_file_descriptors",
    "Open files of all its processes",
    ({ processes }) => processes?.files,
  ),
  single(
    containers,
    "gauge",
    "container_sockets",
    "Open sockets of all its processes",
    ({ processes }) => processes?.sockets,
  ),
  family(
    containers,
    "gauge",
    "container_tasks_state",
    "Threads of all its processes, by what they do",
    ["state"],
    (["running", "sleeping", "stopped", "uninterruptible"] as const).map((state) => ({
      labels: [state],
      value: ({ processes }) => processes?.[state],
    })),
  ),
  family(
    containers,
    "gauge",
    "container_ulimits_soft",
    "Soft limits of its first process; -1: unlimited",
    ["ulimit"],
    [{ labels: ["max_open_files"], value: ({ processes }) => processes?.mostFiles }],
  ),

  single(disks, "gauge", "container_fs_usage_bytes", "What the container has written", ({ written }) => written?.bytes),
  single(
    disks,
    "gauge",
    "container_fs_limit_bytes",
    "Size of the file system it writes to",
    ({ space }) => space?.bytes,
  ),
  single(
    disks,
    "gauge",
    "container_fs_inodes_total",
    "Inodes of the file system it writes to",
    ({ space }) => space?.inodes,
  ),
  single(
    disks,
    "gauge",
    "container_fs_inodes_free",
    "Free inodes of the file system it writes to",
    ({ space }) => space?.freeInodes,
  ),
  io("container_fs_reads_bytes_total", "readBytes", "Bytes read from block devices"),
  io("container_fs_reads_total", "reads", "Reads from block devices"),
  io("container_fs_writes_bytes_total", "writtenBytes", "Bytes written to block devices"),
  io("container_fs_writes_total", "writes", "Writes to block devices"),
  family(
    numberedDevices,
    "counter",
    "container_blkio_device_usage_total",
    "Bytes read from and written to block devices",
    ["operation"],
    [
      { labels: ["Read"], value: ({ readBytes }) => readBytes },
      { labels: ["Write"], value: ({ writtenBytes }) => writtenBytes },
    ],
  ),

  link("container_network_receive_bytes_total", "rxBytes", "Bytes received"),
  link("container_network_receive_packets_total", "rxPackets", "Packets received"),
  link("container_network_receive_errors_total", "rxErrors", "Errors while receiving"),
  link("container_network_receive_packets_dropped_total", "rxDropped", "Received packets that were dropped"),
  link("container_network_transmit_bytes_total", "txBytes", "Bytes sent"),
  link("container_network_transmit_packets_total", "txPackets", "Packets sent"),
  link("container_network_transmit_errors_total", "txErrors", "Errors while sending"),
  link("container_network_transmit_packets_dropped_total", "txDropped", "Packets to send that were dropped"),

  ...pressure,
];
