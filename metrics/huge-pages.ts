/** What cgroups use of huge pages, by their size. */
import { readdirSync } from "node:fs";
import { native, type SampledFile, type Sampler } from "../native/binding.js";
import type { CgroupManager } from "../sandbox/cgroup/manager.js";

export interface HugePages {
  /** as the kernel writes it: "2MB" */
  pageSize: string;
  usageBytes: number;
  /** undefined: the kernel does not tell (v2) */
  maxUsageBytes: number | undefined;
  failures: number;
}

interface Source {
  pageSizes: readonly string[];
  sampler: Sampler;
}

/** usage, most, failures */
const valuesOfSize = 3;

const sources = new WeakMap<object, Source | null>();

/** By path. Empty when the host has no such controller. */
export async function readHugePages(
  cgroups: Pick<CgroupManager, "hierarchies">,
  paths: readonly string[],
): Promise<Map<string, HugePages[]>> {
  const result = new Map<string, HugePages[]>();
  const source = sourceOf(cgroups);
  if (source === null || paths.length === 0) return result;
  const values = await source.sampler.sample(paths, true);
  const width = 1 + source.pageSizes.length * valuesOfSize;
  for (const [index, path] of paths.entries()) {
    const pages: HugePages[] = [];
    for (const [size, pageSize] of source.pageSizes.entries()) {
      const at = index * width + 1 + size * valuesOfSize;
      const [usageBytes = Number.NaN, most = Number.NaN, failures = Number.NaN] = values.subarray(
        at,
        at + valuesOfSize,
      );
      if (Number.isNaN(usageBytes)) continue;
      pages.push({ pageSize, usageBytes, maxUsageBytes: Number.isNaN(most) ? undefined : most, failures });
    }
    if (pages.length > 0) result.set(path, pages);
  }
  return result;
}

function sourceOf({ hierarchies }: Pick<CgroupManager, "hierarchies">): Source | null {
  const known = sources.get(hierarchies);
  if (known !== undefined) return known;
  const place = hierarchies.find(({ controllers }) => controllers.includes("hugetlb"));
  const pageSizes = place === undefined ? [] : hostPageSizes();
  const source =
    place === undefined || pageSizes.length === 0
      ? null
      : {
          pageSizes,
          sampler: native.openSampler(pageSizes.flatMap((size) => filesOf(place.mountPoint, place.version, size))),
        };
  sources.set(hierarchies, source);
  return source;
}

/** Three values each; one that a version does not have is read from a file that is not there. */
function filesOf(root: string, version: 1 | 2, pageSize: string): SampledFile[] {
  const whole = (file: string): SampledFile => ({ root, file: `hugetlb.${pageSize}.${file}`, keys: [{ key: "" }] });
  if (version === 1) return [whole("usage_in_bytes"), whole("max_usage_in_bytes"), whole("failcnt")];
  const events = { root, file: `hugetlb.${pageSize}.events`, keys: [{ key: "max" }] };
  return [whole("current"), whole("peak"), events];
}

/** "2MB", as the names of cgroups' files have them. */
function hostPageSizes(): string[] {
  let names: string[];
  try {
    names = readdirSync("/sys/kernel/mm/hugepages");
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const kib = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]);
    if (!(kib > 0)) return [];
    if (kib >= 1 << 20) return [`${kib >> 20}GB`];
    return [kib >= 1 << 10 ? `${kib >> 10}MB` : `${kib}KB`];
  });
}
