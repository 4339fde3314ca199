/** Debian's own kernels for cloud machines, as `test/support/prepare.mjs vm` unpacked them; they are not installed. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";

/** Debian 12's own, or that of its backports: several years apart. */
export type KernelName = "debian" | "backports";

export interface Kernel {
  /** as `uname -r` says it */
  release: string;
  /** path of the bootable image */
  image: string;
  /** directory of its modules: `.../lib/modules/<release>` */
  modules: string;
}

const trees: Record<KernelName, string> = { debian: "kernel", backports: "kernel-backports" };

/** The kernels that are unpacked below `cache`. */
export async function findKernels(cache: string): Promise<Partial<Record<KernelName, Kernel>>> {
  const found: Partial<Record<KernelName, Kernel>> = {};
  for (const name of ["debian", "backports"] as const) {
    const tree = join(cache, trees[name]);
    const [release] = await readdir(join(tree, "lib", "modules")).catch(() => []);
    if (release === undefined) continue;
    const modules = join(tree, "lib", "modules", release);
    found[name] = { release, image: join(tree, "boot", `vmlinuz-${release}`), modules };
  }
  return found;
}
