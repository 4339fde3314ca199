/**
 * What only `berth doctor` looks at, because it takes its time or changes seldom: the disk, the kernel's settings and modules,
 * limits, the clock, the kubelet's configuration, CNI's files, registries, what is left over. The rest is in ../doctor.ts.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { KernelFeatures } from "../../native/binding.js";
import type { Config } from "../config.js";
import type { Finding } from "../doctor.js";
import { clockFindings } from "./clock.js";
import { cniFindings } from "./cni.js";
import { diskFindings } from "./disk.js";
import { kernelFindings } from "./kernel.js";
import { kubeletFindings } from "./kubelet.js";
import { limitFindings } from "./limits.js";
import { moduleFindings } from "./modules.js";
import { sysctlFindings } from "./sysctls.js";

export interface Machine {
  /** where /proc, /sys, /lib and /var are looked for: "/", or a directory that a test has made */
  root: string;
  config: Config;
  /** who would give pods their network now */
  network: "builtin" | "cni" | "none";
  features: KernelFeatures;
  cgroupMode: "v1" | "hybrid" | "v2";
}

/** Reads a file below the machine's root; undefined: it is not there, or may not be read. */
export type ReadText = (path: string) => Promise<string | undefined>;

export async function examineMachine(machine: Machine): Promise<Finding[]> {
  const read: ReadText = (path) => readFile(join(machine.root, path), "utf8").then((text) => text.trim(), nothing);
  const parts = await Promise.all([
    kernelFindings(machine.features),
    moduleFindings(machine, read),
    sysctlFindings(machine, read),
    limitFindings(read),
    diskFindings(machine, read),
    clockFindings(machine.root),
    kubeletFindings(machine, read),
    cniFindings(machine),
  ]);
  return parts.flat();
}

function nothing(): undefined {
  return undefined;
}
