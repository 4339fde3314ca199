/** Which image of an index fits this machine, in the OCI image specification's words. */

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

/** This machine's platform. */
export function hostPlatform(architecture: NodeJS.Architecture = process.arch): Platform {
  return architectures[architecture] ?? { os: "linux", architecture };
}

/** "linux/arm/v7" */
export function formatPlatform(platform: Platform): string {
  return [platform.os, platform.architecture, platform.variant].filter((part) => part).join("/");
}

/**
 * How well an image fits: 0 not at all, otherwise the higher the better. A machine runs images of its own variant and of
 * lower ones; an image that names no variant fits all.
 */
export function platformFit(image: Platform, host: Platform): number {
  if (image.os !== host.os || image.architecture !== host.architecture) return 0;
  const wanted = variantNumber(image.variant);
  if (wanted === 0) return 1;
  const own = variantNumber(host.variant) || 1;
  return wanted <= own ? 1 + wanted : 0;
}

function variantNumber(variant: string | undefined): number {
  return Number(/^v([0-9]{1,2})$/.exec(variant ?? "")?.[1] ?? 0);
}
