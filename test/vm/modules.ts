/** Kernel modules in the order in which they can be inserted, read from the modules themselves (no depmod needed). */
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";

/** What the initramfs inserts to reach the disk and the port for results. */
export const bootModules = ["virtio_pci", "virtio_blk", "virtio_console"];

/** What a node that runs pods has loaded, by tools or on demand. */
export const nodeModules = [
  "overlay",
  "veth",
  "bridge",
  "br_netfilter",
  "dummy",
  "loop",
  "btrfs",
  "xfs",
  "quota_v2",
  "dm_thin_pool",
  "nf_conntrack",
  "nf_tables",
  "nft_chain_nat",
  "nft_ct",
  "nft_fib_inet",
  "nft_limit",
  "nft_log",
  "nft_masq",
  "nft_nat",
  "nft_redir",
  "nft_reject_inet",
];

/** Paths of the wanted modules and of all that they need, each after what it depends on. */
export async function moduleOrder(directory: string, wanted: readonly string[]): Promise<string[]> {
  const paths = new Map<string, string>();
  for (const path of await readdir(join(directory, "kernel"), { recursive: true })) {
    if (path.endsWith(".ko")) paths.set(moduleName(path), join(directory, "kernel", path));
  }
  const builtIn = new Set(
    (await readFile(join(directory, "modules.builtin"), "utf8")).split("\n").filter(Boolean).map(moduleName),
  );
  const ordered = new Map<string, string>();
  const visit = async (name: string): Promise<void> => {
    if (ordered.has(name) || builtIn.has(name)) return;
    const path = paths.get(name);
    if (path === undefined) throw new Error(`the kernel in ${directory} has no module ${name}`);
    for (const needed of dependsOf(await readFile(path))) await visit(needed);
    ordered.set(name, path);
  };
  for (const name of wanted) await visit(name);
  return [...ordered.values()];
}

/** The names in a module's `depends=` line: part of its .modinfo section, a row of NUL-terminated strings. */
export function dependsOf(module: Buffer): string[] {
  const marker = Buffer.from("\0depends=");
  const at = module.indexOf(marker);
  if (at < 0) return [];
  const start = at + marker.length;
  const names = module.toString("latin1", start, module.indexOf(0, start));
  return names.split(",").filter(Boolean).map(moduleName);
}

/** The kernel takes "-" and "_" in module names for the same. */
function moduleName(path: string): string {
  return basename(path, ".ko").replaceAll("-", "_");
}
