/** Versions of the CNI specification. */

/** Oldest first. */
export const supportedVersions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

/** For sort(): below 0, 0, above 0. */
export function compareVersions(one: string, other: string): number {
  const [a, b] = [one, other].map((version) => version.split(".").map(Number));
  for (let part = 0; part < 3; part++) {
    const difference = (a?.[part] ?? 0) - (b?.[part] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export function isAtLeast(version: string, wanted: string): boolean {
  return compareVersions(version, wanted) >= 0;
}

/** DEL has the result of ADD, and there is CHECK. */
export const hasCheck = (version: string): boolean => isAtLeast(version, "0.4.0");
/** There are STATUS and GC. */
export const hasGc = (version: string): boolean => isAtLeast(version, "1.1.0");
