/** cgroup v2: one hierarchy for all controllers (a hybrid host's may have none of them). */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FailedPreconditionError, InvalidArgumentError } from "../errors.js";
import type { LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources } from "../spec/oci.js";
import { bytesOrUnlimited, known, single } from "./fields.js";
import type { CgroupLimits, Hierarchy } from "./manager.js";
import type { CgroupPart } from "./part.js";
import { parentsOf } from "./paths.js";
import { checkPageSize, checkUnifiedName, decimal, orMax, sharesToWeight, swapOnly, toIoWeight } from "./resources.js";
import { blockIoSetting, hugepageField, type Setting } from "./settings.js";
import { v2SampleFiles } from "./v2-samples.js";

/** The controllers that are handed down to a pod's cgroups, where the host has them. */
const wanted = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

export function v2Part(hierarchy: Hierarchy): CgroupPart {
  const root = hierarchy.mountPoint;
  const controllers: ReadonlySet<string> = new Set(hierarchy.controllers);

  return {
    hierarchies: [hierarchy],
    controllers,

    preparation: (path) =>
      delegation(
        root,
        path,
        wanted.filter((controller) => controllers.has(controller)),
      ),

    settings(path, resources, options) {
      const at = (name: string) => join(root, path, name);
      return [
        ...(controllers.has("cpuset") ? cpusetSettings(at, resources.cpu) : []),
        ...(controllers.has("cpu") ? cpuSettings(at, resources.cpu, options.fresh) : []),
        ...(controllers.has("memory") ? memorySettings(at, resources.memory, options.fresh) : []),
        ...(controllers.has("pids") ? pidsSettings(at, resources) : []),
        ...(controllers.has("hugetlb") ? hugepageSettings(at, resources) : []),
        ...(controllers.has("io") ? blockIoSettings(at, resources.blockIO, hasBfq(root)) : []),
        ...unifiedSettings(at, resources),
      ];
    },

    limitFiles: (path) =>
      (controllers.has("memory") || controllers.has("cpu") ? limitFiles : []).map((name) => join(root, path, name)),

    readLimits([memory, swap, weight, max, cpus, mems]) {
      const memoryBytes = bytesOrUnlimited(memory);
      const swapBytes = bytesOrUnlimited(swap);
      const [quota = "", period = ""] = (max ?? "").trim().split(" ");
      const unlimited = memoryBytes === -1 || swapBytes === -1;
      return known<CgroupLimits>({
        memoryBytes,
        memoryAndSwapBytes:
          memoryBytes === undefined || swapBytes === undefined ? undefined : unlimited ? -1 : memoryBytes + swapBytes,
        cpuWeight: single(weight),
        cpuQuota: max === undefined ? undefined : (single(quota) ?? -1),
        cpuPeriod: single(period),
        cpus: cpus?.trim(),
        mems: mems?.trim(),
      });
    },

    ...(controllers.has("memory") && {
      reclaim: (path: string) => ({
        usageFile: join(root, path, "memory.current"),
        reclaimFile: join(root, path, "memory.reclaim"),
      }),
    }),

    sampleFiles: v2SampleFiles(root, controllers),
  };
}

const limitFiles = ["memory.max", "memory.swap.max", "cpu.weight", "cpu.max", "cpuset.cpus", "cpuset.mems"];

type At = (name: string) => string;

/**
 * Controllers are handed down by every parent, from the root to the path's own: each is told which it still lacks. What a
 * parent does not have itself (its administrator's choice) it cannot hand down.
 */
function delegation(root: string, path: string, controllers: readonly string[]): Setting[] {
  const settings: Setting[] = [];
  // from the inside out: what the innermost hands down it has from all others
  for (const parent of ["", ...parentsOf(path)].reverse()) {
    const file = join(root, parent, "cgroup.subtree_control");
    const handedDown = words(file);
    const lacking = controllers.filter((controller) => !handedDown.includes(controller));
    if (lacking.length === 0) break;
    settings.unshift({ file, value: lacking.map((controller) => `+${controller}`).join(" "), field: "", given: "" });
  }
  return settings;
}

function cpusetSettings(at: At, cpu: LinuxCpu | undefined): Setting[] {
  const settings: Setting[] = [];
  const { cpus = "", mems = "" } = cpu ?? {};
  if (cpus !== "") settings.push({ file: at("cpuset.cpus"), value: cpus, field: "cpuset_cpus", given: `"${cpus}"` });
  if (mems !== "") settings.push({ file: at("cpuset.mems"), value: mems, field: "cpuset_mems", given: `"${mems}"` });
  return settings;
}

function cpuSettings(at: At, cpu: LinuxCpu | undefined, fresh: boolean): Setting[] {
  const { shares = 0, quota = 0, period = 0 } = cpu ?? {};
  const settings: Setting[] = [];
  if (shares !== 0) {
    const value = decimal(sharesToWeight(shares));
    settings.push({ file: at("cpu.weight"), value, field: "cpu_shares", given: `${shares}` });
  }
  if (quota !== 0 || period !== 0) {
    const file = at("cpu.max");
    const before = fresh ? [] : words(file);
    const share = quota === 0 ? (before[0] ?? "max") : orMax(quota);
    const value = period === 0 ? share : `${share} ${decimal(period)}`;
    const [field, given] = quota === 0 ? ["cpu_period", `${period}`] : ["cpu_quota", givenBandwidth(quota, period)];
    settings.push({ file, value, field, given });
  }
  return settings;
}

function givenBandwidth(quota: number, period: number): string {
  return period === 0 ? `${quota}` : `${quota} with cpu_period ${period}`;
}

function memorySettings(at: At, memory: LinuxMemory | undefined, fresh: boolean): Setting[] {
  const { limit, swap, reservation, swappiness, disableOOMKiller } = memory ?? {};
  if (swappiness !== undefined) throw new InvalidArgumentError("memory.swappiness: cgroup v2 has no such setting");
  if (disableOOMKiller === true)
    throw new InvalidArgumentError("memory.disableOOMKiller: cgroup v2 has no such setting");
  const settings: Setting[] = [];
  if (reservation !== undefined) {
    const value = orMax(reservation);
    settings.push({ file: at("memory.low"), value, field: "memory.reservation", given: `${reservation}` });
  }
  const swapLimit = swapOnly({ swap, limit: limit ?? (fresh || swap === undefined ? undefined : currentLimit(at)) });
  if (swapLimit !== undefined && !(fresh && swapLimit < 0)) {
    const value = orMax(swapLimit);
    settings.push({ file: at("memory.swap.max"), value, field: "memory_swap_limit_in_bytes", given: `${swap ?? -1}` });
  }
  if (limit !== undefined) {
    settings.push({ file: at("memory.max"), value: orMax(limit), field: "memory_limit_in_bytes", given: `${limit}` });
  }
  return settings;
}

function currentLimit(at: At): number | undefined {
  return single(words(at("memory.max"))[0]);
}

function pidsSettings(at: At, { pids }: LinuxResources): Setting[] {
  if (pids === undefined || pids.limit === 0) return [];
  return [{ file: at("pids.max"), value: orMax(pids.limit), field: "pids.limit", given: `${pids.limit}` }];
}

function hugepageSettings(at: At, { hugepageLimits }: LinuxResources): Setting[] {
  return (hugepageLimits ?? []).flatMap(({ pageSize, limit }) =>
    ["", ".rsvd"].map((kind) => ({
      file: at(`hugetlb.${checkPageSize(pageSize)}${kind}.max`),
      value: decimal(limit),
      field: hugepageField,
      given: `${pageSize}=${limit}`,
    })),
  );
}

/** The BFQ scheduler has weights of its own; those of io.weight are the cost model's, where that is switched on. */
function blockIoSettings(at: At, blockIO: LinuxBlockIo | undefined, hasBfq: () => boolean): Setting[] {
  if (blockIO === undefined) return [];
  const weights = [
    ...(blockIO.weight === undefined ? [] : [{ of: "default", weight: blockIO.weight }]),
    ...(blockIO.weightDevice ?? []).map(({ major, minor, weight }) => ({ of: `${major}:${minor}`, weight })),
  ];
  const bfq = weights.length > 0 && hasBfq();
  return [
    ...weights.map(({ of, weight }) =>
      blockIoSetting(at(bfq ? "io.bfq.weight" : "io.weight"), `${of} ${bfq ? weight : toIoWeight(weight)}`),
    ),
    ...[...throttles(blockIO)].map(([device, words]) => blockIoSetting(at("io.max"), [device, ...words].join(" "))),
  ];
}

/** The words of io.max by device. */
function throttles(blockIO: LinuxBlockIo): Map<string, string[]> {
  const byDevice = new Map<string, string[]>();
  const lists = [
    ["rbps", blockIO.throttleReadBpsDevice],
    ["wbps", blockIO.throttleWriteBpsDevice],
    ["riops", blockIO.throttleReadIOPSDevice],
    ["wiops", blockIO.throttleWriteIOPSDevice],
  ] as const;
  for (const [word, list] of lists) {
    for (const { major, minor, rate } of list ?? []) {
      const device = `${major}:${minor}`;
      byDevice.set(device, [...(byDevice.get(device) ?? []), `${word}=${decimal(rate)}`]);
    }
  }
  return byDevice;
}

/** Whether the scheduler is loaded: every cgroup but the root has its file then. */
function hasBfq(root: string): () => boolean {
  return () => {
    const cgroup = readdirSync(root, { withFileTypes: true }).find((entry) => entry.isDirectory());
    return cgroup !== undefined && existsSync(join(root, cgroup.name, "io.bfq.weight"));
  };
}

/** Last, so that they win over what was converted. */
function unifiedSettings(at: At, { unified }: LinuxResources): Setting[] {
  return Object.entries(unified ?? {}).map(([name, value]) => {
    checkUnifiedName(name);
    return { file: at(name), value, field: `unified "${name}"`, given: `"${value}"` };
  });
}

/** The words of a small file; none when there is no such file (yet), or its cgroup goes while it is read. */
function words(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split(/\s+/).filter(Boolean);
  } catch (error) {
    if (error instanceof Error && "code" in error && ["ENOENT", "ENODEV"].includes(String(error.code))) return [];
    throw new FailedPreconditionError(`${file} cannot be read`, { cause: error });
  }
}
