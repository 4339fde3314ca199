/** Images from files, for machines without a registry: an OCI layout (directory or tar) or a `docker save` archive. */
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { type Archive, openArchive } from "./archive.js";
import { algorithmOf, digestOf, verified } from "./digest.js";
import type { ImageRecord } from "./image-store.js";
import { type ImageToInstall, type InstallDeps, installImage } from "./install-image.js";
import { choosePlatform, type Descriptor, maxManifestBytes, parseManifest } from "./manifest.js";
import { hostPlatform } from "./platform.js";
import { formatName, formatReference, parseReference, type Reference } from "./reference.js";

const maxIndexDepth = 3;

/**
 * Takes all images of an archive into the store. With several, those before a failing one stay.
 * @throws NotFoundError when the path cannot be read, InvalidArgumentError when it holds no image for this machine
 */
export async function importImage(deps: InstallDeps, path: string, signal?: AbortSignal): Promise<ImageRecord[]> {
  const archive = await openArchive(path);
  try {
    const images = await imagesOf(archive, path);
    if (images.length === 0) throw new InvalidArgumentError(`${path} holds no image`);
    const records: ImageRecord[] = [];
    for (const image of images) {
      records.push(await installImage(deps, image, signal ?? new AbortController().signal));
    }
    return records;
  } finally {
    await archive.close();
  }
}

async function imagesOf(archive: Archive, path: string): Promise<ImageToInstall[]> {
  // today's `docker save` writes both; its own list has the complete names
  if (await archive.has("manifest.json")) return dockerImages(archive, path);
  if (await archive.has("index.json")) return layoutImages(archive, path);
  throw new InvalidArgumentError(
    `${path} is neither an OCI layout (no index.json) nor a docker save archive (no manifest.json)`,
  );
}

async function layoutImages(archive: Archive, path: string): Promise<ImageToInstall[]> {
  const bytes = await archive.read("index.json", maxManifestBytes);
  const index = parseManifest(bytes, "application/vnd.oci.image.index.v1+json", `${path}/index.json`);
  if (index.kind !== "index") throw new InvalidArgumentError(`${path}/index.json is no index`);
  const images: ImageToInstall[] = [];
  for (const group of groupByName(index.manifests)) images.push(await layoutImage(archive, path, group));
  return images;
}

interface NamedManifests {
  name: Reference | undefined;
  manifests: Descriptor[];
}

/** A layout may list one image for several platforms flatly, under the same name. */
function groupByName(manifests: readonly Descriptor[]): NamedManifests[] {
  const groups = new Map<string, NamedManifests>();
  for (const manifest of manifests) {
    const name = nameOf(manifest);
    const key = name === undefined ? manifest.digest : formatReference(name);
    const group = groups.get(key) ?? { name, manifests: [] };
    group.manifests.push(manifest);
    groups.set(key, group);
  }
  return [...groups.values()];
}

/** The annotation's bare word may be a tag of anything: only what is a name with a tag or a path is taken for one. */
function nameOf(manifest: Descriptor): Reference | undefined {
  const complete = manifest.annotations["io.containerd.image.name"];
  const short = manifest.annotations["org.opencontainers.image.ref.name"];
  const name = complete ?? (short !== undefined && /[:/]/.test(short) ? short : undefined);
  return name === undefined ? undefined : parseReference(name);
}

async function layoutImage(archive: Archive, path: string, group: NamedManifests): Promise<ImageToInstall> {
  const what = group.name === undefined ? path : formatReference(group.name);
  const host = hostPlatform();
  let descriptor = choosePlatform(group.manifests, host, what);
  const digest = descriptor.digest;
  for (let depth = 0; depth <= maxIndexDepth; depth++) {
    const bytes = await readBlob(archive, descriptor.digest, maxManifestBytes);
    const manifest = parseManifest(bytes, descriptor.mediaType, what);
    if (manifest.kind === "index") {
      descriptor = choosePlatform(manifest.manifests, host, what);
      continue;
    }
    return {
      what,
      configuration: await readBlob(archive, manifest.config.digest, maxManifestBytes),
      layers: manifest.layers.map(
        (layer) => (signal: AbortSignal) => verified(archive.stream(blobPath(layer.digest), signal), layer),
      ),
      repoTags: group.name?.tag === undefined ? [] : [formatReference(group.name)],
      repoDigests: group.name === undefined ? [] : [`${formatName(group.name)}@${digest}`],
      blobs: manifest.layers,
      annotations: manifest.annotations,
    };
  }
  throw new InvalidArgumentError(`${what} is an index of indexes more than ${maxIndexDepth} deep`);
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

async function dockerImages(archive: Archive, path: string): Promise<ImageToInstall[]> {
  const refuse = (why: string): never => {
    throw new InvalidArgumentError(`manifest.json in ${path} ${why}`);
  };
  let list: unknown;
  try {
    list = JSON.parse((await archive.read("manifest.json", maxManifestBytes)).toString("utf8"));
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw error;
    refuse("is no JSON");
  }
  if (!Array.isArray(list)) return refuse("is no list");
  const images: ImageToInstall[] = [];
  for (const item of list as unknown[]) {
    const { Config, RepoTags, Layers } = (item ?? {}) as Record<string, unknown>;
    if (typeof Config !== "string") return refuse("has an image without Config");
    if (!isStrings(Layers) || Layers.length > 500) return refuse("has an image without a list of Layers");
    const tags = isStrings(RepoTags) ? RepoTags.map((tag) => formatReference(parseReference(tag))) : [];
    for (const layer of Layers) if (!(await archive.has(layer))) refuse(`names ${layer}, which is not in the archive`);
    images.push({
      what: tags[0] ?? path,
      configuration: await archive.read(Config, maxManifestBytes),
      // the diff ids of the configuration are what these bytes are held against
      layers: Layers.map((layer) => (signal: AbortSignal) => archive.stream(layer, signal)),
      repoTags: tags,
      repoDigests: [],
    });
  }
  return images;
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
