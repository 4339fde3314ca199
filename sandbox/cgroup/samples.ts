/** Samples of cgroups: which values of which files they are made of, and the pass that reads them. */
import { setImmediate } from "node:timers/promises";
import { native } from "../../native/binding.js";
import type { CgroupSample } from "./manager.js";
import { checkCgroupPath } from "./paths.js";

/** What is read and not told: the told values are made from it. */
interface Ingredients {
  /** v1: of memory and swap together, and of memory, the least on the way to the root */
  memoryAndSwapLimitBytes: number;
  hierarchicalMemoryLimitBytes: number;
}

type Column = Exclude<keyof CgroupSample, "timestamp"> | keyof Ingredients;

/** A key of the file (native/addon-types.ts), its column, and what its numbers are multiplied by. */
export type SampleKey = readonly [key: string, column: Column, factor?: number];

export interface SampleFile {
  /** the hierarchy's mount point */
  root: string;
  file: string;
  /** the number of the file's lines, in the cgroup and all below it */
  countedAs?: Column;
  /** of metrics alone: the CRI's statistics have nothing of it */
  detail?: boolean;
  /** native/addon-types.ts: what tells that the cgroup's processes have run, and what changes only then */
  pulse?: boolean;
  steady?: boolean;
  keys?: readonly SampleKey[];
}

export interface Samples {
  /** one pass over all paths; a path that is gone has no entry */
  take(paths: Iterable<string>, details: boolean): Promise<Map<string, CgroupSample>>;
  /** the cgroup was removed */
  forget(path: string): void;
}

/** For how long the event loop is kept at a time. */
const sliceMs = 1;

/** v1 says "no limit" by the largest multiple of a page. */
const noLimitBytes = 2 ** 62;

/** Where two files have a column, the later one's value counts. */
export function openSamples(files: readonly SampleFile[]): Samples {
  const columns = files.flatMap(({ countedAs, keys = [] }) =>
    countedAs === undefined ? keys.map(([, column]) => column) : [countedAs],
  );
  // that processes come and go is not enough
  const runsAreTold = files.some(({ pulse, keys }) => pulse && keys?.some(([, column]) => column === "cpuUsageNs"));
  const sampler = native.openSampler(
    files.map(({ countedAs, steady = false, keys = [], ...file }) => ({
      ...file,
      steady: steady && runsAreTold,
      counted: countedAs !== undefined,
      keys: keys.map(([key, , factor = 1]) => ({ key, factor })),
    })),
  );
  return {
    forget: (path) => sampler.forget(path),
    async take(paths, details) {
      const wanted = [...paths];
      for (const path of wanted) checkCgroupPath(path);
      const samples = new Map<string, CgroupSample>();
      // also of none: it is then that the files of what is gone are closed
      const values = await sampler.sample(wanted, details);
      let at = 0;
      let begun = performance.now();
      for (const path of wanted) {
        if (performance.now() - begun >= sliceMs) {
          await setImmediate();
          begun = performance.now();
        }
        const sample = toSample(values, at, columns);
        if (sample !== undefined) samples.set(path, sample);
        at += columns.length + 1;
      }
      return samples;
    },
  };
}

function toSample(values: Float64Array, at: number, columns: readonly Column[]): CgroupSample | undefined {
  const read: Partial<Record<Column, number>> & { timestamp: number } = { timestamp: values[at] as number };
  let any = false;
  for (let index = 0; index < columns.length; index++) {
    const value = values[at + 1 + index] as number;
    if (Number.isNaN(value)) continue;
    any = true;
    if (value < noLimitBytes) read[columns[index] as Column] = value;
  }
  if (!any) return undefined;
  const { memoryUsageBytes: usage, memoryAndSwapLimitBytes: both, hierarchicalMemoryLimitBytes: memory } = read;
  // memory that cannot be taken back without harm, as cAdvisor counts it
  if (usage !== undefined) read.memoryWorkingSetBytes = Math.max(0, usage - (read.memoryInactiveFileBytes ?? 0));
  if (both !== undefined && memory !== undefined) read.swapLimitBytes = Math.max(0, both - memory);
  return read;
}
