/** Which image of an index fits this machine, in the OCI image specification's words. */
import { readFileSync } from "node:fs";

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

const architectures: Partial<Record<NodeJS.Architecture, Platform>> = {
  x64: { os: "linux", architecture: "amd64" },
  arm64: { os: "linux", architecture: "arm64", variant: "v8" },
  arm: { os: "linux", architecture: "arm", variant: "v7" },
  ppc64: { os: "linux", architecture: "ppc64le" },
  s390x: { os: "linux", architecture: "s390x" },
  riscv64: { os: "linux", architecture: "riscv64" },
};

/** What `uname` and distributions call them, besides the OCI's own words. */
const aliases: Record<string, Omit<Platform, "os">> = {
  x86_64: { architecture: "amd64" },
  "x86-64": { architecture: "amd64" },
  aarch64: { architecture: "arm64" },
  armhf: { architecture: "arm", variant: "v7" },
  armel: { architecture: "arm", variant: "v6" },
  i386: { architecture: "386" },
};

/** What a machine of an architecture runs besides its own programs: of all variants. */
const alsoRuns: Record<string, string> = { amd64: "386", arm64: "arm" };

/** The flags of /proc/cpuinfo that make the levels of the x86-64 psABI, above the first. */
const amd64Levels: readonly string[][] = [
  ["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"],
  ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"],
  ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"],
];

let ownLevel: string | undefined;

/** This machine's platform, on amd64 with the level of its processor. */
export function hostPlatform(architecture: NodeJS.Architecture = process.arch): Platform {
  const platform = architectures[architecture] ?? { os: "linux", architecture };
  if (architecture !== "x64" || process.arch !== "x64") return platform;
  ownLevel ??= amd64Level(readFileSync("/proc/cpuinfo", "utf8"));
  return { ...platform, variant: ownLevel };
}

/** What is made here is for: every machine of this architecture. The level of this one's processor is no demand of programs. */
export function imagePlatform(): Platform {
  const { os, architecture, variant } = hostPlatform();
  return { os, architecture, ...(variant !== undefined && architecture !== "amd64" && { variant }) };
}

/** "v1" to "v4", by the first processor of /proc/cpuinfo */
export function amd64Level(cpuinfo: string): string {
  const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.split(/\s+/));
  const missing = amd64Levels.findIndex((wanted) => !wanted.every((flag) => flags.has(flag)));
  return `v${(missing < 0 ? amd64Levels.length : missing) + 1}`;
}

/** "linux/arm/v7", for people: images may call their platform anything, of any length. */
export function formatPlatform(platform: Platform): string {
  const parts = [platform.os, platform.architecture, platform.variant];
  return parts.flatMap((part) => (part ? [part.slice(0, 60)] : [])).join("/");
}

/**
 * How well an image fits: 0 not at all, otherwise the higher the better. A machine runs images of its own variant and of
 * lower ones; an image that names no variant fits all. Least of all fit those of the machine's 32-bit relative. The
 * version of the operating system means nothing on Linux.
 */
export function platformFit(image: Platform, host: Platform): number {
  const { os, architecture, variant } = normalized(image);
  if (os !== host.os) return 0;
  const wanted = variantNumber(variant);
  if (architecture !== host.architecture) {
    if (alsoRuns[host.architecture] !== architecture) return 0;
    // arm's own variants end at v8, which is what arm64 begins with
    return wanted <= 8 ? 0.01 + wanted / 1000 : 0;
  }
  if (wanted === 0) return 1;
  const own = variantNumber(host.variant) || 1;
  return wanted <= own ? 1 + wanted : 0;
}

function normalized(platform: Platform): Platform {
  const architecture = platform.architecture.toLowerCase();
  return { ...platform, architecture, ...aliases[architecture], os: platform.os.toLowerCase() };
}

/** "v7" and "7" are 7, none is 0. A word that is no number is a variant that no machine is known to have. */
function variantNumber(variant: string | undefined): number {
  if (variant === undefined || variant === "") return 0;
  return Number(/^v?([0-9]{1,2})(?:\.[0-9]{1,2})?$/i.exec(variant)?.[1] ?? Number.POSITIVE_INFINITY);
}
