/** What the sandbox asks of cgroups; v1, hybrid and v2 stand behind it. A path is relative to every hierarchy's root. */
import type { LinuxResources } from "../spec/oci.js";

/** The files by which a process joins a cgroup, is counted and killed. */
export interface CgroupHandles {
  /** v1: a process joins by writing "0" into each */
  tasksFiles: string[];
  /** cgroup2 directory (the whole thing on v2, the unified side on hybrid); empty without a cgroup2 mount */
  cgroup2Directory: string;
  /** the file with the oom_kill counter; empty when there is no memory controller */
  oomKillFile: string;
}

type Resource = "cpu" | "memory" | "io";
type Stalled = "Some" | "Full";

/** Pressure (PSI): for how long some tasks, or all of them, have waited for the resource; the averages are percentages. */
export type PressureSample = { [Field in `${Resource}${Stalled}${"Ns" | "Avg10" | "Avg60" | "Avg300"}`]?: number };

/** One sample; a value is undefined where the kernel or the hierarchy does not tell it. Bytes, nanoseconds, counts. */
export interface CgroupSample extends PressureSample {
  /** nanoseconds since the epoch, as exactly as a double can say it */
  timestamp: number;
  cpuUsageNs?: number;
  cpuUserNs?: number;
  cpuSystemNs?: number;
  cpuPeriods?: number;
  cpuThrottledPeriods?: number;
  cpuThrottledNs?: number;
  /** memory.usage_in_bytes or memory.current */
  memoryUsageBytes?: number;
  /** usage less inactive file pages, as cAdvisor counts it */
  memoryWorkingSetBytes?: number;
  memoryRssBytes?: number;
  memoryCacheBytes?: number;
  memoryMappedFileBytes?: number;
  memoryActiveFileBytes?: number;
  memoryInactiveFileBytes?: number;
  memoryMaxUsageBytes?: number;
  memoryLimitBytes?: number;
  memoryFailures?: number;
  memoryKernelBytes?: number;
  swapUsageBytes?: number;
  swapLimitBytes?: number;
  pageFaults?: number;
  majorPageFaults?: number;
  /** v1: without those of nested cgroups */
  ownPageFaults?: number;
  ownMajorPageFaults?: number;
  oomKills?: number;
  processes?: number;
  threads?: number;
  pidsLimit?: number;
}

/** The limits that are in force; absent: the kernel does not tell, or there is none. */
export interface CgroupLimits {
  /** bytes; -1: no limit */
  memoryBytes?: number;
  /** bytes of memory and swap together; -1: no limit */
  memoryAndSwapBytes?: number;
  /** v1 */
  cpuShares?: number;
  /** v2 */
  cpuWeight?: number;
  /** microseconds; -1: no limit */
  cpuQuota?: number;
  cpuPeriod?: number;
  /** as the kernel writes lists: "0-3,7" */
  cpus?: string;
  mems?: string;
}

/** One line of /proc/self/mountinfo that is a cgroup hierarchy. */
export interface Hierarchy {
  mountPoint: string;
  version: 1 | 2;
  /** v1: the controllers mounted there; v2: those of cgroup.controllers that are used */
  controllers: string[];
  /** v1: "name=systemd" is "systemd"; empty: none */
  name: string;
}

export interface CreateOptions {
  /** cgroup v2's controllers are handed down by somebody else, later */
  withoutControllers?: boolean;
  /** is told of the directories of parents that are missing, as missingParents() names them, before they are made */
  onMissingParents?: (directories: readonly string[]) => void;
}

export interface CgroupManager {
  readonly mode: "v1" | "hybrid" | "v2";
  readonly hierarchies: readonly Hierarchy[];
  /** of those that Berth has a use for (cpu, cpuset, memory, pids, ...), the ones that this host lacks */
  readonly missingControllers: readonly string[];
  /** the directories of the path's parents that create() would have to make, absolute, the outermost first: stored with
   *  the intent, and given to removeParents() when the cgroup is gone */
  missingParents(path: string): string[];
  /** mkdir in every hierarchy (parents too; answers the directories of parents that it has made: more than were missing
   *  before, when somebody has removed one meanwhile), limits written. InvalidArgumentError names a resource field that the kernel refuses; then nothing is left */
  create(path: string, resources: LinuxResources, options?: CreateOptions): Promise<string[]>;
  /** moves a process (with its threads) from the parent, which has no other, to this cgroup, made where it is missing;
   *  from then on controllers can be handed down below the parent */
  enter(path: string, pid: number): Promise<void>;
  /** writes what is said; when the kernel refuses one value, the others are put back. FailedPreconditionError: a memory
   *  limit that is less than what is in use */
  update(path: string, resources: LinuxResources): Promise<void>;
  /** reads the limits back */
  limits(path: string): Promise<CgroupLimits>;
  /** rmdir with everything below; already gone is success */
  remove(path: string): Promise<void>;
  /** rmdir of those directories (the answer of create or missingParents) that are empty by now; answers the others, which
   *  stay because somebody else uses them */
  removeParents(directories: readonly string[]): Promise<string[]>;
  /** numbers of the processes in it and below, as the agent sees them */
  processes(path: string): Promise<number[]>;
  /** SIGKILL to everything in it and below; back when it is empty */
  kill(path: string): Promise<void>;
  /** true in any hierarchy */
  exists(path: string): boolean;
  handles(path: string): CgroupHandles;
  /** one pass over all paths; a path that is gone has no entry. Without `details` (true when it is not given) what the CRI's
   *  statistics of containers have no use for is neither read nor told: half of the work */
  sample(paths: Iterable<string>, options?: { details?: boolean }): Promise<Map<string, CgroupSample>>;
}
