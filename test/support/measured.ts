import { setTimeout as sleep } from "node:timers/promises";
import type { DiskUsage, Snapshots } from "../../sandbox/rootfs/snapshots.js";

/** What a container has written, or the error of measuring it: on a busy machine the first answers may come before. */
export async function measured(snapshots: Snapshots, containerId: string): Promise<DiskUsage> {
  for (let waitedMs = 0; waitedMs < 30_000; waitedMs += 20) {
    const usage = await snapshots.writableLayerUsage(containerId);
    if (usage !== undefined) return usage;
    await sleep(20);
  }
  throw new Error(`what ${containerId} has written was not measured within 30 s`);
}
