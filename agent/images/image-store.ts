/**
 * The records of images: one JSON file per image under `<root>/images/`, on disk before in memory. Images are known by
 * their id, the digest of their configuration; tags and repository digests are names that point to it.
 */
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import type { OciImageConfig } from "../../sandbox/image-config.js";
import type { LayerStore } from "../../sandbox/rootfs/layer-store.js";
import { Serial } from "../../sandbox/serial.js";
import { digestOf } from "./digest.js";
import { formatReference, parseReference } from "./reference.js";

export interface ImageRecord {
  version: 1;
  /** "sha256:<hex>": the digest of the image's configuration; what PullImage answers */
  id: string;
  /** complete names: "docker.io/library/busybox:latest" */
  repoTags: string[];
  /** complete names with the digest of the manifest or index that was asked for */
  repoDigests: string[];
  /** unpacked layers and configuration: what removing the image gives back when it shares no layer; > 0 */
  sizeBytes: number;
  /** chain ids, bottom first */
  layers: string[];
  /** what its containers need of the configuration: in memory without labels and history, which can be megabytes */
  config: OciImageConfig;
  /** of the manifest; absent when there are none, or far too many */
  annotations?: Record<string, string>;
  /** the same digest as the id */
  configDigest: string;
  /** nanoseconds since the epoch, decimal: when it came to this machine */
  pulledAt: string;
}

/** As it is on the disk. */
export interface StoredImage extends ImageRecord {
  /** the configuration as it came, byte for byte; absent when it is no UTF-8, and in records of before */
  configuration?: string;
}

export interface ImageStoreOptions {
  root: string;
  layers: LayerStore;
  /** chain ids of the containers' root file systems: they are kept, whatever becomes of their image */
  inUse?: () => Iterable<string>;
  /** a file that is no whole record, or names a layer that is not there; it has been removed */
  onBroken?: (path: string, why: string) => void;
}

export interface ImageConfiguration {
  /** byte for byte; undefined: nobody has kept it */
  text: string | undefined;
  /** as its JSON says */
  parsed: object;
  /** checked, with labels and history */
  config: OciImageConfig;
}

export interface ImageStore {
  /** where the records are, `<hex digits of the id>.json` each */
  readonly directory: string;
  list(): ImageRecord[];
  /**
   * By id (with or without "sha256:"), a unique prefix of it of 12 digits or more, a tag or a repository digest in any
   * familiar form.
   * @throws InvalidArgumentError when a prefix is not unique
   */
  find(reference: string): ImageRecord | undefined;
  /** An image's configuration as it came; what is left of it when its record on the disk is damaged. */
  configurationOf(record: ImageRecord): Promise<ImageConfiguration>;
  /** Adds an image, or names to one that is known. A tag that another image had moves to this one. */
  put(record: StoredImage): Promise<ImageRecord>;
  /**
   * Removes the image with all its names, and the layers that nobody else needs. The CRI's RemoveImage: an image that
   * is not there is success (undefined).
   */
  remove(reference: string): Promise<ImageRecord | undefined>;
  /** Keeps layers from collection, whether or not they are there yet, until the returned function is called. */
  hold(chainIds: readonly string[]): () => void;
  /** Chain ids of layers that no image, no container and no pull needs. */
  unneeded(): string[];
  /** Removes them. */
  collect(): Promise<void>;
  /** The same when there may be some: layers that were in use when their image was removed. Costs nothing when there are none. */
  collectOwed(): Promise<void>;
  /** Writes the record of an image that is known as it is in memory, with what can still be read of its configuration. */
  rewrite(id: string): Promise<void>;
  /** Removes a file of the directory that is no image's record; it is left alone when it has become one. */
  removeFile(name: string): Promise<void>;
  /** Runs while no record changes. */
  whileStill<T>(work: () => Promise<T>): Promise<T>;
}

const serialKey = "images";
/**
 * As people see them. A shorter one could be a name: of an image that is not here, "cafe", any image that somebody made to
 * begin so would be taken for it.
 */
const shortestPrefix = 12;

/** Opens (and makes) the store. Half-written records are removed, as are those whose layers are missing. */
export async function openImageStore(options: ImageStoreOptions): Promise<ImageStore> {
  const directory = join(options.root, "images");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const images = await load(directory, options);
  const byName = new Map<string, string>();
  const held = new Map<string, number>();
  const changes = new Serial();
  const pathOf = (id: string): string => join(directory, `${id.slice("sha256:".length)}.json`);

  const index = (record: ImageRecord): void => {
    images.set(record.id, record);
    for (const name of [...record.repoTags, ...record.repoDigests]) byName.set(name, record.id);
  };
  for (const record of images.values()) index(record);

  const store = async (record: StoredImage): Promise<ImageRecord> => {
    const whole =
      record.configuration === undefined && images.has(record.id)
        ? await readStored(pathOf(record.id)).catch(() => undefined)
        : undefined;
    const kept = whole !== undefined && isWhole(whole, record.id) ? fromDisk(whole) : {};
    await writeDurably(directory, pathOf(record.id), { ...record, ...kept });
    const remembered = remember(record);
    index(remembered);
    return remembered;
  };

  const layersBeside = (needed: Iterable<string>): string[] => {
    const others = new Set(needed);
    for (const image of images.values()) for (const chainId of image.layers) others.add(chainId);
    return options.layers
      .list()
      .map(({ chainId }) => chainId)
      .filter((chainId) => !others.has(chainId));
  };
  const unneeded = () => layersBeside([...held.keys(), ...(options.inUse?.() ?? [])]);
  // layers are here that no image has any more, or yet
  let owed = false;
  const collect = async (): Promise<void> => {
    // all at once out of everybody's sight: a pull that comes meanwhile must not count on one that is about to go
    await Promise.all(unneeded().map((chainId) => options.layers.remove(chainId)));
    owed = layersBeside([]).length > 0;
  };

  const find = (reference: string): ImageRecord | undefined => {
    const hex = /^(?:sha256:)?([0-9a-f]{1,64})$/.exec(reference)?.[1];
    if (hex?.length === 64) {
      const exact = images.get(`sha256:${hex}`);
      if (exact !== undefined) return exact;
    }
    const name = completeName(reference);
    const named = name === undefined ? undefined : byName.get(name);
    if (named !== undefined) return images.get(named);
    if (hex === undefined || hex.length < shortestPrefix) return undefined;
    const matches = [...images.keys()].filter((id) => id.startsWith(`sha256:${hex}`));
    if (matches.length > 1) {
      throw new InvalidArgumentError(`image id "${reference}" is ambiguous: ${matches.length} images start with it`);
    }
    return images.get(matches[0] ?? "");
  };

  return {
    directory,
    list: () => [...images.values()],
    find,
    async configurationOf(record) {
      try {
        const stored = await readStored(pathOf(record.id));
        if (!isWhole(stored, record.id)) throw new Error("damaged");
        const { configuration, config } = stored;
        return {
          text: configuration,
          parsed: configuration === undefined ? config : JSON.parse(configuration),
          config,
        };
      } catch {
        return { text: undefined, parsed: record.config, config: record.config };
      }
    },
    put: (record) =>
      changes.run(serialKey, async () => {
        const known = images.get(record.id);
        const merged = {
          ...record,
          repoTags: union(known?.repoTags, record.repoTags),
          repoDigests: union(known?.repoDigests, record.repoDigests),
          pulledAt: known?.pulledAt ?? record.pulledAt,
        };
        const others = [...images.values()].filter(
          (other) => other.id !== record.id && other.repoTags.some((tag) => record.repoTags.includes(tag)),
        );
        if (known !== undefined && others.length === 0 && (await isOnDisk(pathOf(record.id), merged))) return known;
        // the new owner of a tag is written first: a crash in between leaves the tag twice, never nowhere
        const remembered = await store(merged);
        for (const other of others) {
          await store({ ...other, repoTags: other.repoTags.filter((tag) => !record.repoTags.includes(tag)) });
        }
        index(remembered);
        return remembered;
      }),
    remove: (reference) =>
      changes.run(serialKey, async () => {
        const record = find(reference);
        if (record === undefined) return undefined;
        await rm(pathOf(record.id), { force: true });
        await syncDirectory(directory);
        images.delete(record.id);
        for (const [name, id] of byName) if (id === record.id) byName.delete(name);
        await collect();
        return record;
      }),
    hold(chainIds) {
      for (const chainId of chainIds) held.set(chainId, (held.get(chainId) ?? 0) + 1);
      let released = false;
      return () => {
        if (released) return;
        released = true;
        for (const chainId of chainIds) {
          const count = (held.get(chainId) ?? 0) - 1;
          if (count > 0) held.set(chainId, count);
          else held.delete(chainId);
        }
      };
    },
    unneeded,
    collect: () => changes.run(serialKey, collect),
    collectOwed: async () => {
      if (owed) await changes.run(serialKey, collect);
    },
    rewrite: (id) =>
      changes.run(serialKey, async () => {
        const record = images.get(id);
        if (record !== undefined) await store(record);
      }),
    removeFile: (name) =>
      changes.run(serialKey, async () => {
        if ([...images.keys()].some((id) => pathOf(id) === join(directory, name))) return;
        await rm(join(directory, name), { force: true, recursive: true });
      }),
    whileStill: (work) => changes.run(serialKey, work),
  };
}

function completeName(reference: string): string | undefined {
  try {
    return formatReference(parseReference(reference));
  } catch {
    return undefined;
  }
}

function union(first: readonly string[] | undefined, second: readonly string[]): string[] {
  return [...new Set([...(first ?? []), ...second])];
}

async function load(directory: string, options: ImageStoreOptions): Promise<Map<string, ImageRecord>> {
  const records: ImageRecord[] = [];
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    try {
      if (!name.endsWith(".json")) throw new Error("a record that was not finished");
      const record = remember(await readStored(path));
      if (record.version !== 1) throw new Error(`version ${record.version} is not 1`);
      const missing = record.layers.find((chainId) => !options.layers.has(chainId));
      if (missing !== undefined) throw new Error(`layer ${missing} is missing`);
      records.push(record);
    } catch (error) {
      await rm(path, { force: true });
      options.onBroken?.(path, error instanceof Error ? error.message : String(error));
    }
  }
  records.sort((a, b) => (BigInt(a.pulledAt) < BigInt(b.pulledAt) ? -1 : 1));
  return new Map(records.map((record) => [record.id, record]));
}

/** A pull of what is there writes nothing. */
async function isOnDisk(path: string, record: StoredImage): Promise<boolean> {
  const stored = await readStored(path).catch(() => undefined);
  return (
    stored !== undefined && isWhole(stored, record.id) && isDeepStrictEqual(stored, JSON.parse(JSON.stringify(record)))
  );
}

async function readStored(path: string): Promise<StoredImage> {
  return JSON.parse(await readFile(path, "utf8")) as StoredImage;
}

/** An image's id is its configuration's digest. */
export function isWhole({ id, configuration }: StoredImage, expected: string): boolean {
  return id === expected && (configuration === undefined || digestOf(configuration) === id);
}

/** What is kept in memory of a record. */
export function remember({ configuration: _, ...record }: StoredImage): ImageRecord {
  const { config } = record;
  return { ...record, config: { ...config, config: { ...config.config, Labels: {} }, history: [] } };
}

function fromDisk({ config, configuration }: StoredImage): Partial<StoredImage> {
  return { config, ...(configuration !== undefined && { configuration }) };
}

async function writeDurably(directory: string, path: string, record: StoredImage): Promise<void> {
  try {
    const file = await open(`${path}.new`, "w", 0o600);
    try {
      await file.writeFile(JSON.stringify(record));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
  } catch (error) {
    await rm(`${path}.new`, { force: true });
    throw error;
  }
  await syncDirectory(directory);
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
