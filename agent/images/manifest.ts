/** Manifests and indexes of the OCI image specification and Docker's schema 2, checked: they come from outside. */
import { InternalError, InvalidArgumentError, NotFoundError } from "../../sandbox/errors.js";
import { digestPattern } from "./digest.js";
import { shapeProblem } from "./json-shape.js";
import { formatPlatform, type Platform, platformFit } from "./platform.js";

export interface Descriptor {
  mediaType: string;
  digest: string;
  /** bytes */
  size: number;
  platform?: Platform;
  annotations: Record<string, string>;
  /** what it is, when it is no image */
  artifactType?: string;
  /** of a foreign layer: where else it can be had */
  urls?: string[];
}

export interface ImageManifest {
  kind: "image";
  config: Descriptor;
  layers: Descriptor[];
  annotations: Record<string, string>;
}

export type ParsedManifest = ImageManifest | { kind: "index"; manifests: Descriptor[] };

/** What is whole, and no container image, or one for other machines. */
export class NoImageForUsError extends InvalidArgumentError {}
class NoPlatformError extends NotFoundError {}

/** It may be that something else beside it is the image that is looked for. */
export function isNoImageForUs(error: unknown): boolean {
  return error instanceof NoImageForUsError || error instanceof NoPlatformError;
}

/** Also the bound of configurations. */
export const maxManifestBytes = 4 * 1024 ** 2;
const maxLayers = 500;
const maxIndexEntries = 10_000;
const maxUrls = 16;
export const maxIndexDepth = 3;
/** of an index with many that lead nowhere */
const maxManifestsRead = 32;

const imageTypes = new Set([
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
]);
const indexTypes = new Set([
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
]);
/** Of artifacts that need no configuration. */
const emptyType = "application/vnd.oci.empty.v1+json";
const layerPattern =
  /^application\/vnd\.(?:oci\.image\.layer(?:\.nondistributable)?\.v1\.tar|docker\.image\.rootfs\.(?:diff|foreign\.diff)\.tar)(?:[+.](?:gzip|zstd))?$/;

/** For the Accept header. */
export const manifestTypes: readonly string[] = [...imageTypes, ...indexTypes];

/**
 * @param what names the manifest in errors: the reference or digest
 * @param contentType what the server said; the document's own mediaType wins
 * @throws InvalidArgumentError
 */
export function parseManifest(bytes: Uint8Array, contentType: string, what: string): ParsedManifest {
  const refuse = (why: string): never => {
    throw new InvalidArgumentError(`the manifest of ${what} ${why}`);
  };
  const refuseKind = (why: string): never => {
    throw new NoImageForUsError(`the manifest of ${what} ${why}`);
  };
  const problem = shapeProblem(bytes);
  if (problem !== undefined) refuse(problem);
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  } catch {
    refuse(`is no JSON (the registry called it ${JSON.stringify(contentType.slice(0, 100))})`);
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) refuse("is no JSON object");
  const document = json as Record<string, unknown>;
  if (document.schemaVersion === 1) {
    refuse(
      "has Docker's schema 1, which carries no verifiable configuration and is not supported: push it again with a current tool",
    );
  }
  if (document.schemaVersion !== 2) refuse("has no schemaVersion 2");
  const type = typeof document.mediaType === "string" ? document.mediaType : contentType.split(";")[0]?.trim();
  // older OCI documents carry no type at all: their fields tell
  if (indexTypes.has(type ?? "") || (!imageTypes.has(type ?? "") && Array.isArray(document.manifests))) {
    // what is both means one thing to us and another to who has checked it
    if (document.layers !== undefined || document.config !== undefined) refuse("is an index, and has layers, too");
    return { kind: "index", manifests: descriptors(document.manifests, "manifests", maxIndexEntries, refuse) };
  }
  if (document.manifests !== undefined) refuse("is an image's, and has manifests, too");
  const config = descriptor(document.config, "config", refuse);
  // what Go makes of a list that nothing was ever put into
  const layers = document.layers === null ? [] : descriptors(document.layers, "layers", maxLayers, refuse);
  if (config.size > maxManifestBytes) refuse(`has a configuration of ${config.size} bytes, more than 4 MiB`);
  for (const layer of layers) {
    if (layer.mediaType.endsWith("+encrypted")) refuse("has an encrypted layer, which Berth has no keys for");
    if (!layerPattern.test(layer.mediaType))
      refuseKind(`has a layer of type "${layer.mediaType.slice(0, 200)}": it is no container image`);
  }
  if (config.mediaType === emptyType) refuseKind("has an empty configuration: it is no container image");
  return { kind: "image", config, layers, annotations: parseAnnotations(document.annotations) };
}

/**
 * The entry of an index that fits the machine best; one that names no platform only when none that does fits.
 * @throws NotFoundError that lists what there is
 */
export function choosePlatform(manifests: readonly Descriptor[], host: Platform, what: string): Descriptor {
  return rankPlatforms(manifests, host, what)[0];
}

/** All entries that may fit, the best first; of equals, in the index's order. @throws NotFoundError as above */
export function rankPlatforms(
  manifests: readonly Descriptor[],
  host: Platform,
  what: string,
): [Descriptor, ...Descriptor[]] {
  const known = manifests.filter((entry) => imageTypes.has(entry.mediaType) || indexTypes.has(entry.mediaType));
  const fitOf = (entry: Descriptor): number => {
    if (entry.platform === undefined) return isAttestation(entry) ? 0 : entry.artifactType === undefined ? 0.5 : 0.25;
    return platformFit(entry.platform, host);
  };
  const [best, ...others] = known
    .map((entry) => ({ entry, fit: fitOf(entry) }))
    .filter(({ fit }) => fit > 0)
    .sort((one, other) => other.fit - one.fit)
    .map(({ entry }) => entry);
  if (best !== undefined) return [best, ...others];
  const offered = known.flatMap((entry) => (entry.platform ? [formatPlatform(entry.platform)] : [])).slice(0, 20);
  throw new NoPlatformError(
    `${what} has no image for ${formatPlatform(host)}; it has ${offered.length > 0 ? offered.join(", ") : "none at all"}`,
  );
}

export interface ImageFinder {
  /** Brings what an entry names, parsed. */
  read(entry: Descriptor): Promise<ParsedManifest>;
  /** By the image's configuration; asked for when an index has several entries and does not tell it. */
  platformOf(image: ImageManifest): Promise<Platform | undefined>;
  maxDepth?: number;
}

interface FoundImage {
  image: ImageManifest;
  /** the entries that led there, the index's own first */
  way: Descriptor[];
}

/**
 * The image for this machine: of an index the entry that fits best, also below indexes in there. One that leads to none gives
 * way to the next. Entries without a platform have that of their configuration; when it says none either, any other is better.
 * @throws NotFoundError that lists what there is, InternalError for too many indexes one in the other, and what `read` throws
 */
export async function findImage(
  from: ParsedManifest,
  host: Platform,
  what: string,
  { read, platformOf, maxDepth = maxIndexDepth }: ImageFinder,
): Promise<FoundImage> {
  let left = maxManifestsRead;
  const find = async (manifest: ParsedManifest, way: Descriptor[], isOnly: boolean): Promise<FoundImage> => {
    if (manifest.kind === "image") return { image: manifest, way };
    if (way.length >= maxDepth) {
      throw new InternalError(`${what} is an index of indexes more than ${maxDepth} deep`);
    }
    let reason: { error: unknown } | undefined;
    let best: { found: FoundImage; fit: number } | undefined;
    const entries = rankPlatforms(manifest.manifests, host, what);
    const isOnlyOne = isOnly && entries.length === 1;
    for (const entry of entries) {
      if (left-- <= 0) break;
      try {
        const inside = await read(entry);
        const found = await find(inside, [...way, entry], isOnlyOne);
        // an index has looked itself; and of the only one it is told in the end what it is for
        if (entry.platform !== undefined || inside.kind === "index" || isOnlyOne) return found;
        const fit = fitByConfiguration(await platformOf(inside), host, what);
        if (fit >= 1) return found;
        if (best === undefined || fit > best.fit) best = { found, fit };
      } catch (error) {
        if (!isNoImageForUs(error)) throw error;
        reason ??= { error };
      }
    }
    if (best !== undefined) return best.found;
    throw reason?.error ?? new NoPlatformError(`${what} has too many manifests that are no image for this machine`);
  };
  return find(from, [], true);
}

/** @throws NoPlatformError when it is for other machines */
function fitByConfiguration(platform: Platform | undefined, host: Platform, what: string): number {
  if (platform === undefined) return 0;
  const fit = platformFit(platform, host);
  if (fit > 0) return fit;
  throw new NoPlatformError(`${what} has no image for ${formatPlatform(host)}; it has ${formatPlatform(platform)}`);
}

/** Of a configuration that has not been checked otherwise; undefined: it does not say. */
export function platformOfConfiguration(bytes: Uint8Array): Platform | undefined {
  if (shapeProblem(bytes) !== undefined) return undefined;
  try {
    return parsePlatform(JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8")));
  } catch {
    // what is wrong is told when it is the one that is taken
    return undefined;
  }
}

function isAttestation(entry: Descriptor): boolean {
  return entry.annotations["vnd.docker.reference.type"] !== undefined;
}

type Refuse = (why: string) => never;

function descriptors(value: unknown, field: string, limit: number, refuse: Refuse): Descriptor[] {
  if (!Array.isArray(value)) return refuse(`has no list "${field}"`);
  if (value.length > limit) return refuse(`has more than ${limit} ${field}`);
  return value.map((item: unknown, index) => descriptor(item, `${field}[${index}]`, refuse));
}

function descriptor(value: unknown, field: string, refuse: Refuse): Descriptor {
  if (typeof value !== "object" || value === null) return refuse(`has no descriptor "${field}"`);
  const { mediaType, digest, size, platform, annotations, urls, artifactType } = value as Record<string, unknown>;
  if (typeof digest !== "string" || !digestPattern.test(digest)) return refuse(`has no digest in ${field}`);
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) return refuse(`has no size in ${field}`);
  const fits = parsePlatform(platform);
  return {
    mediaType: typeof mediaType === "string" ? mediaType : "",
    digest,
    size,
    ...(fits !== undefined && { platform: fits }),
    ...(typeof artifactType === "string" && artifactType !== "" && { artifactType }),
    annotations: parseAnnotations(annotations),
    ...(Array.isArray(urls) && urls.length > 0 && { urls: urls.filter(isString).slice(0, maxUrls) }),
  };
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

function parsePlatform(value: unknown): Platform | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { os, architecture, variant } = value as Record<string, unknown>;
  if (typeof os !== "string" || typeof architecture !== "string") return undefined;
  return { os, architecture, ...(typeof variant === "string" && { variant }) };
}

function parseAnnotations(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null) return {};
  const strings = Object.entries(value).filter((entry): entry is [string, string] => isString(entry[1]));
  return Object.fromEntries(strings);
}
