/**
 * Compares the disk with what is known: layers, records of images, directories of containers. A layer is complete or absent,
 * an image's record has all of its layers, and whatever is there is somebody's.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { FailedPreconditionError } from "../../sandbox/errors.js";
import { leakedRootfs } from "../../sandbox/leaks/names.js";
import { checkLayers, type LayersCheck } from "../../sandbox/rootfs/check-layers.js";
import type { LayerStore } from "../../sandbox/rootfs/layer-store.js";
import type { Snapshots } from "../../sandbox/rootfs/snapshots.js";
import { type ImageRecord, type ImageStore, isWhole, remember, type StoredImage } from "./image-store.js";

export interface StoreProblem {
  /** a layer's or an image's id, or a path */
  subject: string;
  what: string;
  /** @throws BerthError with the reason why it cannot be done now */
  repair(): Promise<void>;
}

export interface StoreCheck {
  images: number;
  layers: number;
  problems: StoreProblem[];
}

export interface CheckedParts {
  images: ImageStore;
  layers: LayerStore;
  snapshots: Pick<Snapshots, "directory" | "listRootfs" | "leftovers" | "removeRootfs" | "discard">;
  /** ids of containers that use the layer */
  usersOf(chainId: string): string[];
  /** there is a record of the container */
  isContainer(id: string): boolean;
}

export async function checkStore(parts: CheckedParts, signal?: AbortSignal): Promise<StoreCheck> {
  const { images, layers } = parts;
  const onDisk = await checkLayers(layers, signal);
  const problems = [
    ...damagedLayers(parts, onDisk),
    ...strangers(parts, onDisk),
    ...(await images.whileStill(() => imageRecords(images))),
    ...unneededLayers(parts, onDisk),
    ...(await leakedRootfs(parts.snapshots, parts.isContainer)),
  ];
  return { images: images.list().length, layers: layers.list().length, problems };
}

function damagedLayers(parts: CheckedParts, { damaged }: LayersCheck): StoreProblem[] {
  return [...damaged].map(([chainId, what]) => ({
    subject: chainId,
    what: `the layer is damaged: ${what}`,
    repair: () => removeDamaged(parts, chainId),
  }));
}

/** With the images that have it: the next pull brings both again. */
async function removeDamaged({ images, layers, usersOf }: CheckedParts, chainId: string): Promise<void> {
  const users = usersOf(chainId);
  if (users.length > 0) {
    throw new FailedPreconditionError(`container ${users.join(", ")} was made of it; remove that first`);
  }
  for (const image of images.list()) if (image.layers.includes(chainId)) await images.remove(image.id);
  await images.collect();
  if (layers.has(chainId)) throw new FailedPreconditionError("a pull that runs needs it; try again when it has ended");
}

function strangers({ layers }: CheckedParts, onDisk: LayersCheck): StoreProblem[] {
  return [...onDisk.strangers].map(([name, what]) => ({
    subject: join(layers.directory, name),
    what,
    repair: () => layers.discard(name),
  }));
}

function unneededLayers({ images }: CheckedParts, { damaged }: LayersCheck): StoreProblem[] {
  const left = images.unneeded().filter((chainId) => !damaged.has(chainId));
  return left.map((chainId) => ({
    subject: chainId,
    what: "the layer is no image's and no container's",
    repair: () => images.collect(),
  }));
}

async function imageRecords(images: ImageStore): Promise<StoreProblem[]> {
  const problems: StoreProblem[] = [];
  const files = new Set(await readdir(images.directory));
  for (const record of images.list()) {
    const name = `${record.id.slice("sha256:".length)}.json`;
    const path = join(images.directory, name);
    if (!files.delete(name) || !(await isAsRemembered(path, record))) {
      problems.push({
        subject: record.id,
        what: `the image's record ${path} is missing or damaged`,
        repair: () => images.rewrite(record.id),
      });
    }
  }
  for (const name of files) {
    const path = join(images.directory, name);
    problems.push({ subject: path, what: "it is no image's record", repair: () => images.removeFile(name) });
  }
  return problems;
}

async function isAsRemembered(path: string, record: ImageRecord): Promise<boolean> {
  const stored = (await readRecord(path)) as StoredImage | undefined;
  if (stored?.config === undefined || !isWhole(stored, record.id)) return false;
  return isDeepStrictEqual(remember(stored), JSON.parse(JSON.stringify(record)));
}

async function readRecord(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch {
    return undefined;
  }
}
