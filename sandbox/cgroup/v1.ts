/** cgroup v1: a hierarchy for each controller, or for several. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { FailedPreconditionError } from "../errors.js";
import type { LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources } from "../spec/oci.js";
import { deviceListWrites, devicePolicy } from "./device-rules.js";
import { bytesOrUnlimited, known, single } from "./fields.js";
import type { CgroupLimits, Hierarchy } from "./manager.js";
import type { CgroupPart } from "./part.js";
import { parentsOf } from "./paths.js";
import { checkPageSize, decimal, orMax, orMinusOne } from "./resources.js";
import { blockIoSetting, hugepageField, type Setting } from "./settings.js";
import { v1SampleFiles } from "./v1-samples.js";

const noLimitBytes = 2 ** 62;
const defaultPeriodUs = 100_000;

export function v1Part(hierarchies: readonly Hierarchy[]): CgroupPart {
  const roots = new Map<string, string>();
  for (const { controllers, mountPoint } of hierarchies) {
    for (const controller of controllers) roots.set(controller, mountPoint);
  }
  const fileOf = (path: string, controller: string, name: string) => join(roots.get(controller) ?? "", path, name);

  return {
    hierarchies,
    controllers: new Set(roots.keys()),

    preparation(path) {
      const root = roots.get("cpuset");
      return root === undefined ? [] : inheritedCpusets(root, path);
    },

    settings(path, resources, options) {
      const at = (controller: string, name: string) => fileOf(path, controller, name);
      return [
        ...(roots.has("devices") && options.fresh ? deviceSettings(at, resources) : []),
        ...(roots.has("cpuset") ? cpusetSettings(at, resources.cpu) : []),
        ...(roots.has("cpu") ? cpuSettings(at, resources.cpu, options.fresh) : []),
        ...(roots.has("memory") ? memorySettings(at, resources.memory, options.fresh) : []),
        ...(roots.has("pids") ? pidsSettings(at, resources) : []),
        ...(roots.has("hugetlb") ? hugepageSettings(at, resources) : []),
        ...(roots.has("blkio") ? blockIoSettings(at, resources.blockIO) : []),
      ];
    },

    limitFiles: (path) => limitFields.map(([controller, file]) => fileOf(path, controller, file)),

    readLimits([memory, memsw, shares, quota, period, cpus, mems]) {
      return known<CgroupLimits>({
        memoryBytes: bytesOrUnlimited(memory),
        memoryAndSwapBytes: bytesOrUnlimited(memsw),
        cpuShares: single(shares),
        cpuQuota: single(quota),
        cpuPeriod: single(period),
        cpus: cpus?.trim(),
        mems: mems?.trim(),
      });
    },

    sampleFiles: v1SampleFiles(roots),
  };
}

const limitFields = [
  ["memory", "memory.limit_in_bytes"],
  ["memory", "memory.memsw.limit_in_bytes"],
  ["cpu", "cpu.shares"],
  ["cpu", "cpu.cfs_quota_us"],
  ["cpu", "cpu.cfs_period_us"],
  ["cpuset", "cpuset.cpus"],
  ["cpuset", "cpuset.mems"],
] as const;

type At = (controller: string, name: string) => string;

/**
 * A new v1 cpuset has no CPU and no memory node, and takes no task before it has some: what has none, from the outermost
 * parent to the path itself, gets those of the nearest parent that has.
 */
function inheritedCpusets(root: string, path: string): Setting[] {
  return ["cpuset.cpus", "cpuset.mems"].flatMap((name) => {
    const lacking: string[] = [];
    // from the inside out: most often the innermost parent has some
    for (const cgroup of ["", ...parentsOf(path), path].reverse()) {
      const file = join(root, cgroup, name);
      const value = readTrimmed(file);
      if (value !== "") return lacking.map((one) => ({ file: one, value, field: "", given: "" }));
      lacking.unshift(file);
    }
    return [];
  });
}

function deviceSettings(at: At, resources: LinuxResources): Setting[] {
  const policy = devicePolicy(resources.devices);
  if (policy === undefined) return [];
  return deviceListWrites(policy).map(({ file, value }) => ({
    file: at("devices", file),
    value,
    field: "devices",
    given: value,
  }));
}

function cpusetSettings(at: At, cpu: LinuxCpu | undefined): Setting[] {
  const settings: Setting[] = [];
  const { cpus = "", mems = "" } = cpu ?? {};
  if (cpus !== "")
    settings.push({ file: at("cpuset", "cpuset.cpus"), value: cpus, field: "cpuset_cpus", given: `"${cpus}"` });
  if (mems !== "")
    settings.push({ file: at("cpuset", "cpuset.mems"), value: mems, field: "cpuset_mems", given: `"${mems}"` });
  return settings;
}

function cpuSettings(at: At, cpu: LinuxCpu | undefined, fresh: boolean): Setting[] {
  const { shares, quota, period } = cpu ?? {};
  const settings: Setting[] = [];
  if (shares !== undefined && shares !== 0) {
    settings.push({ file: at("cpu", "cpu.shares"), value: decimal(shares), field: "cpu_shares", given: `${shares}` });
  }
  const bandwidth: Setting[] = [];
  if (quota !== undefined && quota !== 0) {
    const value = orMinusOne(quota);
    bandwidth.push({ file: at("cpu", "cpu.cfs_quota_us"), value, field: "cpu_quota", given: `${quota}` });
  }
  if (period !== undefined && period !== 0) {
    const file = at("cpu", "cpu.cfs_period_us");
    const before = fresh ? defaultPeriodUs : Number(readTrimmed(file));
    const setting = { file, value: decimal(period), field: "cpu_period", given: `${period}` };
    // Quota through period must at no moment be more than the parent's: the longer period comes before the quota.
    if (period >= before) bandwidth.unshift(setting);
    else bandwidth.push(setting);
  }
  return [...settings, ...bandwidth];
}

function memorySettings(at: At, memory: LinuxMemory | undefined, fresh: boolean): Setting[] {
  const { limit, swap, reservation, swappiness, disableOOMKiller } = memory ?? {};
  const settings: Setting[] = [];
  if (reservation !== undefined) {
    const file = at("memory", "memory.soft_limit_in_bytes");
    settings.push({ file, value: orMinusOne(reservation), field: "memory.reservation", given: `${reservation}` });
  }
  const limitSetting = limit !== undefined && {
    file: at("memory", "memory.limit_in_bytes"),
    value: orMinusOne(limit),
    field: "memory_limit_in_bytes",
    given: `${limit}`,
  };
  const swapFile = at("memory", "memory.memsw.limit_in_bytes");
  // No limit of memory means none of memory and swap, which can be no less.
  const bothLimit = swap ?? (limit !== undefined && limit < 0 && !fresh ? -1 : undefined);
  const swapSetting = bothLimit !== undefined && {
    file: swapFile,
    value: orMinusOne(bothLimit),
    field: "memory_swap_limit_in_bytes",
    given: `${bothLimit}`,
  };
  const raised = !fresh && bothLimit !== undefined && orInfinity(bothLimit) > orInfinity(Number(readTrimmed(swapFile)));
  for (const setting of raised ? [swapSetting, limitSetting] : [limitSetting, swapSetting]) {
    if (setting !== false) settings.push(setting);
  }
  if (swappiness !== undefined) {
    const file = at("memory", "memory.swappiness");
    settings.push({ file, value: decimal(swappiness), field: "memory.swappiness", given: `${swappiness}` });
  }
  if (disableOOMKiller === true) {
    const file = at("memory", "memory.oom_control");
    settings.push({ file, value: "1", field: "memory.disableOOMKiller", given: "true" });
  }
  return settings;
}

function orInfinity(bytes: number): number {
  return bytes < 0 || bytes >= noLimitBytes ? Number.POSITIVE_INFINITY : bytes;
}

function pidsSettings(at: At, { pids }: LinuxResources): Setting[] {
  if (pids === undefined || pids.limit === 0) return [];
  return [{ file: at("pids", "pids.max"), value: orMax(pids.limit), field: "pids.limit", given: `${pids.limit}` }];
}

function hugepageSettings(at: At, { hugepageLimits }: LinuxResources): Setting[] {
  return (hugepageLimits ?? []).flatMap(({ pageSize, limit }) =>
    ["", ".rsvd"].map((kind) => ({
      file: at("hugetlb", `hugetlb.${checkPageSize(pageSize)}${kind}.limit_in_bytes`),
      value: decimal(limit),
      field: hugepageField,
      given: `${pageSize}=${limit}`,
    })),
  );
}

/** Weights are the BFQ scheduler's, the only one that has any on this version. */
function blockIoSettings(at: At, blockIO: LinuxBlockIo | undefined): Setting[] {
  if (blockIO === undefined) return [];
  const weights = blockIO.weight === undefined ? [] : [blockIO.weight];
  return [
    ...weights.map((weight) => blockIoSetting(at("blkio", "blkio.bfq.weight"), decimal(weight))),
    ...(blockIO.weightDevice ?? []).map(({ major, minor, weight }) =>
      blockIoSetting(at("blkio", "blkio.bfq.weight_device"), `${major}:${minor} ${decimal(weight)}`),
    ),
    ...throttleFiles.flatMap(([list, file]) =>
      (blockIO[list] ?? []).map(({ major, minor, rate }) =>
        blockIoSetting(at("blkio", file), `${major}:${minor} ${decimal(rate)}`),
      ),
    ),
  ];
}

const throttleFiles = [
  ["throttleReadBpsDevice", "blkio.throttle.read_bps_device"],
  ["throttleWriteBpsDevice", "blkio.throttle.write_bps_device"],
  ["throttleReadIOPSDevice", "blkio.throttle.read_iops_device"],
  ["throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"],
] as const;

/** The content without its newline; "" when there is no such file (yet), or its cgroup goes while it is read. */
function readTrimmed(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && ["ENOENT", "ENODEV"].includes(String(error.code))) return "";
    throw new FailedPreconditionError(`${file} cannot be read`, { cause: error });
  }
}

/** Opening a file is most of what reading it takes: what is rarely asked for (kmem) is left out. */
