/** Debian's own kernel for cloud machines, as `test/support/prepare.mjs vm` unpacked it; it is not installed. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";

export interface Kernel {
  /** as `uname -r` says it */
  release: string;
  /** path of the bootable image */
  image: string;
  /** directory of its modules: `.../lib/modules/<release>` */
  modules: string;
}

/** The kernel that is unpacked at `tree`. */
export async function findKernel(tree: string): Promise<Kernel> {
  const [release] = await readdir(join(tree, "lib", "modules")).catch(() => []);
  if (release === undefined) throw new Error(`no kernel in ${tree}; \`npm run test:vm\` puts one there`);
  return {
    release,
    image: join(tree, "boot", `vmlinuz-${release}`),
    modules: join(tree, "lib", "modules", release),
  };
}
