/**
 * Images as an OCI layout. A tar has the list of "docker save" beside it: of several images, or of one with several names, podman
 * and Docker take nothing else. Compressed layers are not kept, so that they are made anew: the content is the image's, its digests
 * are not. Importing and exporting it again makes the same digests.
 */
import { InvalidArgumentError, NotFoundError } from "../../sandbox/errors.js";
import type { OciImageConfig } from "../../sandbox/image-config.js";
import { type PackedLayer, packLayer } from "../../sandbox/rootfs/pack-layer.js";
import { digestOf } from "./digest.js";
import type { ImageRecord } from "./image-store.js";
import type { InstallDeps } from "./install-image.js";
import { blobName, type LayoutWriter, openLayoutWriter } from "./layout-writer.js";
import { imagePlatform, type Platform } from "./platform.js";
import { parseReference } from "./reference.js";

export interface ExportRequest {
  /** names or ids, in any form */
  images: readonly string[];
  /** absolute; a tar when it ends with ".tar", else a directory */
  path: string;
  signal: AbortSignal;
}

export interface ExportedImage {
  image: ImageRecord;
  /** what the image's id will be where the layout is imported */
  id: string;
  /** of the manifest in the layout */
  digest: string;
}

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const configType = "application/vnd.oci.image.config.v1+json";
const layerType = "application/vnd.oci.image.layer.v1.tar+gzip";

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

/**
 * @throws NotFoundError, AlreadyExistsError when something is at the path, ResourceExhaustedError for a full disk,
 *   CancelledError; nothing stays of what was written then
 */
export async function exportImages(
  deps: Pick<InstallDeps, "images" | "layers">,
  request: ExportRequest,
): Promise<ExportedImage[]> {
  const records = request.images.map((name) => {
    const found = deps.images.find(name);
    if (found === undefined) throw new NotFoundError(`image "${name}" is not on this node`);
    return found;
  });
  const images = [...new Set(records)];
  if (images.length === 0) throw new InvalidArgumentError("images: none is named");
  const release = deps.images.hold(images.flatMap(({ layers }) => layers));
  try {
    const layout = await openLayoutWriter(request.path);
    try {
      return await writeLayout(deps, layout, images, request.signal);
    } catch (error) {
      await layout.abandon();
      throw error;
    }
  } finally {
    release();
  }
}

async function writeLayout(
  deps: Pick<InstallDeps, "images" | "layers">,
  layout: LayoutWriter,
  images: readonly ImageRecord[],
  signal: AbortSignal,
): Promise<ExportedImage[]> {
  const packed = new Map<string, PackedLayer>();
  const manifests: object[] = [];
  const dockerList: object[] = [];
  const exported: ExportedImage[] = [];
  const tags = images.flatMap(({ repoTags }) => repoTags);
  for (const image of images) {
    for (const [index, chainId] of image.layers.entries()) {
      if (packed.has(chainId)) continue;
      const below = image.layers[index - 1];
      packed.set(chainId, await layout.addBlob((fd) => packLayer(deps.layers, chainId, below, fd, signal)));
    }
    const layers = image.layers.map((chainId) => packed.get(chainId) as PackedLayer);
    const config = await addJson(layout, configType, {
      // as it came, with the diff ids of the layers that were made anew
      ...(await deps.images.configurationOf(image)).parsed,
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    });
    const manifest = await addJson(layout, manifestType, {
      schemaVersion: 2,
      mediaType: manifestType,
      config,
      layers: layers.map(({ digest, bytes }) => ({ mediaType: layerType, digest, size: bytes })),
      ...(image.annotations && { annotations: image.annotations }),
    });
    const entry = { ...manifest, platform: platformOf(image.config) };
    if (image.repoTags.length === 0) manifests.push(entry);
    for (const tag of image.repoTags) manifests.push({ ...entry, annotations: namesOf(tag, tags) });
    dockerList.push({
      Config: blobName(config.digest),
      RepoTags: image.repoTags,
      Layers: layers.map(({ digest }) => blobName(digest)),
    });
    exported.push({ image, id: config.digest, digest: manifest.digest });
  }
  const index = { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests };
  await layout.finish(Buffer.from(JSON.stringify(index)), Buffer.from(JSON.stringify(dockerList)));
  return exported;
}

/** As the image says: where it goes may be a machine with fewer abilities than this one's. */
function platformOf({ os, architecture, variant }: OciImageConfig): Platform {
  const here = imagePlatform();
  return {
    os: os || here.os,
    architecture: architecture || here.architecture,
    ...(variant !== undefined && { variant }),
  };
}

async function addJson(layout: LayoutWriter, mediaType: string, value: unknown): Promise<Descriptor> {
  const bytes = Buffer.from(JSON.stringify(value));
  const digest = digestOf(bytes);
  await layout.addBytes(digest, bytes);
  return { mediaType, digest, size: bytes.length };
}

/** The complete name for containerd and us; for skopeo and umoci the tag, if it means one image only. */
function namesOf(tag: string, all: readonly string[]): Record<string, string> {
  const short = (name: string): string => parseReference(name).tag ?? name;
  const isUnique = all.filter((other) => short(other) === short(tag)).length === 1;
  return {
    "io.containerd.image.name": tag,
    "org.opencontainers.image.ref.name": isUnique ? short(tag) : tag,
  };
}
