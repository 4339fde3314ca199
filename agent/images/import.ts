/**
 * Images from files, for machines without a registry: an OCI layout or a `docker save` archive; each a directory or a tar,
 * compressed or not.
 */
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { type Archive, openArchive } from "./archive.js";
import { algorithmOf, digestOf, verified } from "./digest.js";
import type { ImageRecord } from "./image-store.js";
import { type ImageToInstall, type InstallDeps, installImage, parseConfiguration } from "./install-image.js";
import { shapeProblem } from "./json-shape.js";
import {
  type Descriptor,
  findImage,
  isNoImageForUs,
  maxIndexDepth,
  maxManifestBytes,
  parseManifest,
  platformOfConfiguration,
} from "./manifest.js";
import { hostPlatform } from "./platform.js";
import { formatName, formatReference, parseReference, type Reference } from "./reference.js";

export interface ImportDeps extends InstallDeps {
  /** a directory for what is needed for a while */
  scratch: string;
}

export interface ImportRequest {
  path: string;
  /** what the image is to be called, in any familiar form; absent: as the archive says */
  name?: string | undefined;
  signal?: AbortSignal;
}

const maxImages = 1_000;

/**
 * Takes all images of an archive into the store. With several, those before a failing one stay.
 * @throws NotFoundError when the path cannot be read, InvalidArgumentError when it holds no image for this machine, or
 *   several where one is named
 */
export async function importImages(deps: ImportDeps, request: ImportRequest): Promise<ImageRecord[]> {
  const { path } = request;
  const name = request.name === undefined ? undefined : tagOf(request.name);
  const signal = request.signal ?? new AbortController().signal;
  const archive = await openArchive(path, { scratch: deps.scratch, signal });
  try {
    const entries = await entriesOf(archive, path, name === undefined);
    if (entries.length === 0) throw new InvalidArgumentError(`${path} holds no image`);
    if (entries.length > maxImages) throw new InvalidArgumentError(`${path} holds more than ${maxImages} images`);
    if (name !== undefined) await checkIsOne(entries, path, name);
    const records: ImageRecord[] = [];
    for await (const image of imagesAmong(entries)) {
      records.push(await installImage(deps, name === undefined ? image : { ...image, repoTags: [name] }, signal));
    }
    return records;
  } finally {
    await archive.close();
  }
}

/** "docker.io/library/busybox:latest". @throws InvalidArgumentError when it is none that can be given */
export function tagOf(name: string): string {
  const reference = parseReference(name);
  if (reference.digest !== undefined) {
    throw new InvalidArgumentError(`name: "${name}" has a digest, which nobody can give to an image`);
  }
  return formatReference(reference);
}

interface Entry {
  read(): Promise<ImageToInstall>;
  /** It may be none of the images that are wanted: a signature, a bill of materials, the image for another machine. */
  mayBeOther: boolean;
}

async function checkIsOne(entries: readonly Entry[], path: string, name: string): Promise<void> {
  let count = entries.filter(({ mayBeOther }) => !mayBeOther).length;
  if (count < 2 && entries.length > 1) {
    count = 0;
    for await (const _ of imagesAmong(entries)) count++;
  }
  if (count > 1) throw new InvalidArgumentError(`${path} holds ${count} images, which cannot all be called ${name}`);
}

/**
 * One after another: together their manifests and configurations may be larger than the memory.
 * @throws what is wrong with the first one, when it is none of them
 */
async function* imagesAmong(entries: readonly Entry[]): AsyncGenerator<ImageToInstall> {
  let reason: { error: unknown } | undefined;
  let isAny = false;
  for (const { read, mayBeOther } of entries) {
    let image: ImageToInstall;
    try {
      image = await read();
      // of the others installImage says what is wrong
      if (mayBeOther) parseConfiguration(image);
    } catch (error) {
      if (!mayBeOther || !isNoImageForUs(error)) throw error;
      reason ??= { error };
      continue;
    }
    isAny = true;
    yield image;
  }
  if (!isAny && reason !== undefined) throw reason.error;
}

/** @param readsNames false: the images get another name, and what the archive calls them need not even be one */
async function entriesOf(archive: Archive, path: string, readsNames: boolean): Promise<Entry[]> {
  // today's `docker save` writes both, and so does our export. The layout tells more, if it has the complete names
  const [docker, layout] = [await archive.has("manifest.json"), await archive.has("index.json")];
  if (docker && !(layout && (await layoutHasNames(archive, path)))) return dockerImages(archive, path, readsNames);
  if (layout) return layoutImages(archive, path, readsNames);
  throw new InvalidArgumentError(
    `${path} is neither an OCI layout (no index.json) nor a docker save archive (no manifest.json); the tar of a root file system is taken with --rootfs`,
  );
}

/** Of an archive that has both: whether the layout has an image by each of the names in Docker's list. */
async function layoutHasNames(archive: Archive, path: string): Promise<boolean> {
  const manifests = await layoutIndex(archive, path).catch(() => []);
  const names = new Set(manifests.map(({ annotations }) => annotations["io.containerd.image.name"]));
  const list = await dockerList(archive, path);
  const isNamed = list.every((item) => {
    const { RepoTags } = (item ?? {}) as Record<string, unknown>;
    return isStrings(RepoTags) ? RepoTags.every((tag) => names.has(tag)) : RepoTags === undefined || RepoTags === null;
  });
  return isNamed && manifests.length >= list.length;
}

async function layoutIndex(archive: Archive, path: string): Promise<Descriptor[]> {
  const bytes = await archive.read("index.json", maxManifestBytes);
  const index = parseManifest(bytes, "application/vnd.oci.image.index.v1+json", `${path}/index.json`);
  if (index.kind !== "index") throw new InvalidArgumentError(`${path}/index.json is no index`);
  return index.manifests;
}

async function layoutImages(archive: Archive, path: string, readsNames: boolean): Promise<Entry[]> {
  return groupByName(await layoutIndex(archive, path)).map((group) => ({
    read: () => layoutImage(archive, path, group, readsNames),
    mayBeOther: group.name === undefined,
  }));
}

interface NamedManifests {
  /** as the archive has it */
  name: string | undefined;
  manifests: Descriptor[];
}

/** A layout may list one image for several platforms flatly, under the same name. */
function groupByName(manifests: readonly Descriptor[]): NamedManifests[] {
  const groups = new Map<string, NamedManifests>();
  for (const manifest of manifests) {
    const name = nameOf(manifest);
    const key = name ?? manifest.digest;
    const group = groups.get(key) ?? { name, manifests: [] };
    group.manifests.push(manifest);
    groups.set(key, group);
  }
  return [...groups.values()];
}

/** The annotation's bare word may be a tag of anything: only what is a name with a tag or a path is taken for one. */
function nameOf(manifest: Descriptor): string | undefined {
  const complete = manifest.annotations["io.containerd.image.name"];
  const short = manifest.annotations["org.opencontainers.image.ref.name"];
  return complete ?? (short !== undefined && /[:/]/.test(short) ? short : undefined);
}

function parsedName(name: string, isNeeded: boolean): Reference | undefined {
  try {
    return parseReference(name);
  } catch (error) {
    if (isNeeded) throw error;
    return undefined;
  }
}

async function layoutImage(
  archive: Archive,
  path: string,
  group: NamedManifests,
  readsNames: boolean,
): Promise<ImageToInstall> {
  const name = group.name === undefined ? undefined : parsedName(group.name, readsNames);
  const what = name === undefined ? path : formatReference(name);
  const among = { kind: "index" as const, manifests: group.manifests };
  const read = async ({ digest, mediaType }: Descriptor) =>
    parseManifest(await readBlob(archive, digest, maxManifestBytes), mediaType, what);
  const { image, way } = await findImage(among, hostPlatform(), what, {
    read,
    platformOf: async ({ config }) => platformOfConfiguration(await readBlob(archive, config.digest, maxManifestBytes)),
    // the layout's own index counts, too
    maxDepth: maxIndexDepth + 1,
  });
  return {
    what,
    configuration: await readBlob(archive, image.config.digest, maxManifestBytes),
    layers: image.layers.map(
      (layer) => (signal: AbortSignal) => verified(archive.stream(blobPath(layer.digest), signal), layer),
    ),
    repoTags: name?.tag === undefined ? [] : [formatReference(name)],
    repoDigests: name === undefined ? [] : [`${formatName(name)}@${way[0]?.digest}`],
    blobs: image.layers,
    annotations: image.annotations,
  };
}

function blobPath(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

async function readBlob(archive: Archive, digest: string, limitBytes: number): Promise<Buffer> {
  const bytes = await archive.read(blobPath(digest), limitBytes);
  const found = digestOf(bytes, algorithmOf(digest));
  if (found !== digest) throw new InvalidArgumentError(`blob ${digest} has other content: its digest is ${found}`);
  return bytes;
}

function refuseList(path: string): (why: string) => never {
  return (why) => {
    throw new InvalidArgumentError(`manifest.json in ${path} ${why}`);
  };
}

async function dockerList(archive: Archive, path: string): Promise<unknown[]> {
  const refuse: (why: string) => never = refuseList(path);
  const bytes = await archive.read("manifest.json", maxManifestBytes);
  const problem = shapeProblem(bytes);
  if (problem !== undefined) refuse(problem);
  let list: unknown;
  try {
    list = JSON.parse(bytes.toString("utf8"));
  } catch {
    refuse("is no JSON");
  }
  if (!Array.isArray(list)) return refuse("is no list");
  return list as unknown[];
}

async function dockerImages(archive: Archive, path: string, readsNames: boolean): Promise<Entry[]> {
  const refuse = refuseList(path);
  return (await dockerList(archive, path)).map((item) => ({
    read: () => dockerImage(archive, path, item, readsNames, refuse),
    mayBeOther: false,
  }));
}

async function dockerImage(
  archive: Archive,
  path: string,
  item: unknown,
  readsNames: boolean,
  refuse: (why: string) => never,
): Promise<ImageToInstall> {
  const { Config, RepoTags, Layers: list } = (item ?? {}) as Record<string, unknown>;
  // null: of an image without any
  const Layers = list === null ? [] : list;
  if (typeof Config !== "string") return refuse("has an image without Config");
  if (!isStrings(Layers) || Layers.length > 500) return refuse("has an image without a list of Layers");
  const tags = readsNames && isStrings(RepoTags) ? RepoTags.map((tag) => formatReference(parseReference(tag))) : [];
  for (const layer of Layers) if (!(await archive.has(layer))) refuse(`names ${layer}, which is not in the archive`);
  return {
    what: tags[0] ?? path,
    configuration: await archive.read(Config, maxManifestBytes),
    // the diff ids of the configuration are what these bytes are held against
    layers: Layers.map((layer) => (signal: AbortSignal) => archive.stream(layer, signal)),
    repoTags: tags,
    repoDigests: [],
  };
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
