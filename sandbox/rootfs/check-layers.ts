/** Compares what is in the layers' directory with what the layer store knows. */
import { lstat, readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { native } from "../../native/binding.js";
import { messageOf } from "../errors.js";
import { filesOf } from "./drivers/driver.js";
import type { LayerRecord, LayerStore, StoredRecord } from "./layer-store.js";

export interface LayersCheck {
  /** chain ids of layers that are known, but of which something is missing, and what */
  damaged: Map<string, string>;
  /** names in the directory that should not be there, and why */
  strangers: Map<string, string>;
}

/** Reads every directory of every layer, on threads of its own. What is in the making or being deleted is left out. */
export async function checkLayers(layers: LayerStore, signal?: AbortSignal): Promise<LayersCheck> {
  const damaged = new Map<string, string>();
  const strangers = new Map<string, string>();
  const busyBefore = layers.busy();
  const names = await readdir(layers.directory);
  const known = new Map(layers.list().map((record) => [basename(layers.home(record.chainId)), record]));
  for (const name of names) {
    if (known.has(name) || busyBefore.has(name) || layers.busy().has(name)) continue;
    // one that was committed or deleted meanwhile is not there any more
    if (!(await exists(join(layers.directory, name)))) continue;
    strangers.set(
      name,
      name.startsWith(".") ? "an agent that ended left it half made or half removed" : "it is no layer of the store",
    );
  }
  for (const record of known.values()) {
    signal?.throwIfAborted();
    if (!layers.has(record.chainId)) continue;
    const problem = await problemOf(layers, record);
    if (problem !== undefined && layers.has(record.chainId)) damaged.set(record.chainId, problem);
  }
  return { damaged, strangers };
}

async function problemOf(layers: LayerStore, record: LayerRecord): Promise<string | undefined> {
  const home = layers.home(record.chainId);
  let hide: (() => Promise<void>) | undefined;
  try {
    const { unsyncedIn: _, ...stored } = JSON.parse(await readFile(join(home, "layer.json"), "utf8")) as StoredRecord;
    if (!isDeepStrictEqual(stored, record)) {
      return "its record on disk says something else than the one in memory";
    }
    hide = await layers.show([record.chainId]);
    const walk = native.openUsageWalk(filesOf(home));
    while (!(await walk.step(1_000)).done);
    return undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    await hide?.();
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
