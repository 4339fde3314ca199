import { readFileSync } from "node:fs";
import type { KernelFeatures } from "../../native/binding.js";
import type { LiveSettings } from "../../sandbox/node.js";
import { clampRlimits } from "../../sandbox/rlimits.js";
import { sysResourceBit } from "../../sandbox/spec/capabilities.js";
import type { Config } from "../config.js";
import { probeRuntimes } from "../oci-runtimes.js";

/** What of the configuration may change while pods run, in the sandbox' terms. `tell` hears what this host does not allow. */
export async function liveSettings(
  config: Config,
  features: KernelFeatures,
  tell: (sentence: string) => void,
): Promise<LiveSettings> {
  return {
    rlimits: clampRlimits(config.rlimits, {
      ownLimits: readFileSync("/proc/self/limits", "utf8"),
      mayRaise: (features.capabilities & sysResourceBit) !== 0n,
      mostOpenFiles: Number(readFileSync("/proc/sys/fs/nr_open", "utf8")),
      tell,
    }),
    logs: { lineBytes: config.logLineBytes, bytesPerSecond: config.logRate },
    runtimes: await probeRuntimes(config.runtimes),
    cdiDirectories: config.cdiDirectories,
    hooksDirectory: config.hooksDirectory,
    blockioClasses: config.blockio,
    rdtClasses: config.rdt,
    writableLimitBytes: config.writableLimitBytes,
  };
}
