/** Mount options as mount(8) names them, told apart: flags of the mount, propagation, and the file system's own. */

/** MOUNT_ATTR_* of linux/mount.h */
export const mountAttribute = {
  ro: 0x1,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  noatime: 0x10,
  strictatime: 0x20,
  nodiratime: 0x80,
  nosymfollow: 0x20_0000,
} as const;

/** MS_* of sys/mount.h */
export const mountPropagation = { rprivate: 1 << 18, rslave: 1 << 19, rshared: 1 << 20 } as const;

/** MOUNT_ATTR__ATIME of linux/mount.h: one choice out of several, relatime being 0 */
const accessTimeMask = 0x70;
const accessTimes = new Set(["noatime", "strictatime", "relatime"]);

/** What a fresh mount is anyhow. */
const defaults = new Set(["rw", "suid", "dev", "exec", "bind", "rbind"]);

export interface MountOptions {
  /** MOUNT_ATTR_* */
  attributes: number;
  /** MOUNT_ATTR_* that a mount which has them loses */
  cleared: number;
  /** everything below is read-only, too */
  recursiveReadonly: boolean;
  /** MS_*; 0: not said */
  propagation: number;
  /** for fsconfig */
  parameters: string[];
}

export function parseMountOptions(options: readonly string[]): MountOptions {
  const parsed: MountOptions = { attributes: 0, cleared: 0, recursiveReadonly: false, propagation: 0, parameters: [] };
  for (const option of options) {
    if (option === "rro") {
      parsed.attributes |= mountAttribute.ro;
      parsed.recursiveReadonly = true;
    } else if (accessTimes.has(option)) {
      // as mount(8) has it, the last one wins
      parsed.attributes &= ~accessTimeMask;
      parsed.attributes |= mountAttribute[option as keyof typeof mountAttribute] ?? 0;
      parsed.cleared = accessTimeMask;
    } else if (option in mountAttribute) {
      parsed.attributes |= mountAttribute[option as keyof typeof mountAttribute];
    } else if (option in mountPropagation) {
      parsed.propagation = mountPropagation[option as keyof typeof mountPropagation];
    } else if (!defaults.has(option)) {
      parsed.parameters.push(option);
    }
  }
  return parsed;
}
