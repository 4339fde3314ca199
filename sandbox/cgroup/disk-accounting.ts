/** cgroup v1's counts of what is read from and written to disks. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Hierarchy } from "./manager.js";

/**
 * Since Linux 6.10 blkio counts nothing of a disk (blkio.throttle.io_service_bytes and its like, v1 alone) before somebody
 * has set a limit for it, anywhere. None is a limit, too: the root gets that for each disk that has no other there. Where
 * it cannot be written the disk is not counted, and no statistic tells of it.
 */
export function countDiskIo(hierarchies: readonly Hierarchy[], blockDevices = "/sys/block"): void {
  const place = hierarchies.find(({ version, controllers }) => version === 1 && controllers.includes("blkio"));
  if (place === undefined) return;
  const file = join(place.mountPoint, "blkio.throttle.read_bps_device");
  const limited = words(file);
  for (const name of readdirSync(blockDevices)) {
    const [number = ""] = words(join(blockDevices, name, "dev"));
    const [sectors] = words(join(blockDevices, name, "size"));
    // a loop device may have nothing behind it
    if (number === "" || sectors === "0" || limited.includes(number)) continue;
    try {
      writeFileSync(file, `${number} 0`);
    } catch {
      // this one's are not counted, then
    }
  }
}

/** None: it cannot be read. */
function words(file: string): string[] {
  try {
    return readFileSync(file, "utf8").trim().split(/\s+/);
  } catch {
    return [];
  }
}
