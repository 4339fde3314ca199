/** The first root of a boot: busybox and the modules that reach the disk. */
import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { type CpioEntry, cpio } from "./cpio.js";
import type { Kernel } from "./kernel.js";
import { bootModules, moduleOrder } from "./modules.js";

const busybox = "/usr/bin/busybox";
const init = fileURLToPath(new URL("../../../test/vm/guest/initramfs.sh", import.meta.url));

/** Writes the archive. It is small and not compressed: unpacking would cost more than copying. */
export async function buildInitramfs(path: string, kernel: Kernel): Promise<void> {
  const entries: CpioEntry[] = [];
  for (const directory of ["bin", "dev", "proc", "root", "modules"]) entries.push({ path: directory, mode: 0o040755 });
  entries.push({ path: "bin/busybox", mode: 0o100755, content: await readFile(busybox) });
  entries.push({ path: "init", mode: 0o100755, content: await readFile(init) });
  const modules = await moduleOrder(kernel.modules, bootModules);
  for (const module of modules) {
    entries.push({ path: `modules/${basename(module)}`, mode: 0o100644, content: await readFile(module) });
  }
  const order = modules.map((module) => `/modules/${basename(module)}\n`).join("");
  entries.push({ path: "modules/order", mode: 0o100644, content: Buffer.from(order) });
  await writeFile(path, cpio(entries));
}
