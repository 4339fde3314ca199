/** The hierarchies of one version, as the manager works with them. v1.ts and v2.ts make one each; a hybrid host has both. */
import type { LinuxResources } from "../spec/oci.js";
import type { CgroupLimits, Hierarchy } from "./manager.js";
import type { SampleFile } from "./samples.js";
import type { Setting } from "./settings.js";

export interface CgroupPart {
  readonly hierarchies: readonly Hierarchy[];
  readonly controllers: ReadonlySet<string>;
  /** what must be written, once the path's directories are there, before a process can join or a limit be set */
  preparation(path: string): Setting[];
  /** the resources of the controllers that this part has; `fresh`: the cgroup has the kernel's defaults */
  settings(path: string, resources: LinuxResources, options: { fresh: boolean }): Setting[];
  /** the files that tell the limits, absolute, and the limits from their contents in that order */
  limitFiles(path: string): string[];
  readLimits(contents: readonly (string | undefined)[]): CgroupLimits;
  /** what must be given back before the memory limit can be lowered to `limitBytes`: the file with the usage, and the one
   *  that makes the kernel reclaim; undefined: writing the limit does it */
  reclaim?(path: string): { usageFile: string; reclaimFile: string };
  /** what samples are made of */
  readonly sampleFiles: readonly SampleFile[];
}
