import { InternalError, InvalidArgumentError } from "../../sandbox/errors.js";
import { type OciImageConfig, parseImageConfig } from "../../sandbox/image-config.js";
import type { LayerStore } from "../../sandbox/rootfs/layer-store.js";
import { chainIdsOf, digestOf } from "./digest.js";
import type { ImageRecord, ImageStore, StoredImage } from "./image-store.js";
import { shapeProblem } from "./json-shape.js";
import type { LayerFetcher } from "./layer-fetcher.js";
import { maxManifestBytes, NoImageForUsError } from "./manifest.js";
import { formatPlatform, hostPlatform, platformFit } from "./platform.js";
import type { LayerProgress, Pace, Transfers } from "./transfers.js";

export interface InstallDeps {
  images: ImageStore;
  layers: LayerStore;
  fetcher: LayerFetcher;
  transfers: Transfers;
}

export interface ImageToInstall {
  /** for errors: the reference or the archive */
  what: string;
  /** the image's configuration, byte for byte */
  configuration: Buffer;
  /** one for each layer, bottom first; each fails when its bytes are not what was promised */
  layers: ((signal: AbortSignal) => AsyncIterable<Uint8Array>)[];
  /** which registry those ask; absent: none */
  registry?: string;
  /** what those bring, where it is known */
  blobs?: readonly { digest: string; size: number }[];
  /** complete names */
  repoTags: string[];
  repoDigests: string[];
  /** of the manifest */
  annotations?: Record<string, string>;
}

export interface InstallManner {
  /** absent: at full speed */
  pace?: Pace | undefined;
  /** called once, before any layer comes */
  onLayers?: (layers: readonly LayerProgress[]) => void;
}

/** Brings an image's layers in and records it. When it fails, nothing stays that was not there before. */
export async function installImage(
  deps: InstallDeps,
  image: ImageToInstall,
  signal: AbortSignal,
  manner: InstallManner = {},
): Promise<ImageRecord> {
  const config = parseConfiguration(image);
  const chainIds = chainIdsOf(config.rootfs.diff_ids);
  const release = deps.images.hold(chainIds);
  const sources = image.layers.map((open, index) => ({
    registry: image.registry,
    chainId: chainIds[index] as string,
    diffId: config.rootfs.diff_ids[index] as string,
    blob: image.blobs?.[index],
    open,
  }));
  const wanted = deps.transfers.want(sources, deps.layers.has, manner.pace);
  manner.onLayers?.(wanted.layers);
  try {
    await deps.fetcher.ensure(sources, signal);
    const id = digestOf(image.configuration);
    return await deps.images.put({
      version: 1,
      id,
      configDigest: id,
      repoTags: image.repoTags,
      repoDigests: image.repoDigests,
      sizeBytes: sizeOf(deps.layers, chainIds) + image.configuration.length,
      layers: chainIds,
      config,
      ...kept(image, id),
      pulledAt: `${Date.now()}000000`,
    });
  } catch (error) {
    release();
    await deps.images.collect();
    throw error;
  } finally {
    wanted.leave();
    release();
  }
}

/** What lists of images carry: a node with hundreds of them must be able to tell of all. */
const maxAnnotationBytes = 16 * 1024;

function kept(image: ImageToInstall, id: string): Pick<StoredImage, "configuration" | "annotations"> {
  const configuration = image.configuration.toString("utf8");
  const annotations = image.annotations ?? {};
  const bytes = Buffer.byteLength(JSON.stringify(annotations));
  return {
    ...(digestOf(configuration) === id && { configuration }),
    ...(Object.keys(annotations).length > 0 && bytes <= maxAnnotationBytes && { annotations }),
  };
}

/** @throws InvalidArgumentError; NoImageForUsError when it is for other machines */
export function parseConfiguration(image: ImageToInstall): OciImageConfig {
  const problem = shapeProblem(image.configuration);
  if (problem !== undefined) throw new InvalidArgumentError(`the configuration of ${image.what} ${problem}`);
  let json: unknown;
  const text = image.configuration.toString("utf8");
  // what is no UTF-8 becomes three times as long, and ImageStatus would have to tell it
  if (Buffer.byteLength(text) > maxManifestBytes) {
    throw new InvalidArgumentError(
      `the configuration of ${image.what} has more than ${maxManifestBytes} bytes as text`,
    );
  }
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new InvalidArgumentError(`the configuration of ${image.what} is no JSON`, { cause: error });
  }
  const config = parseImageConfig(json);
  if (config.rootfs.diff_ids.length !== image.layers.length) {
    throw new InvalidArgumentError(
      `${image.what} has ${image.layers.length} layers, but its configuration has ${config.rootfs.diff_ids.length} diff ids`,
    );
  }
  const host = hostPlatform();
  const platform = { os: config.os || host.os, architecture: config.architecture || host.architecture };
  if (platformFit(platform, host) === 0) {
    throw new NoImageForUsError(
      `${image.what} is for ${formatPlatform(platform)}, this machine is ${formatPlatform(host)}`,
    );
  }
  return config;
}

function sizeOf(layers: LayerStore, chainIds: readonly string[]): number {
  const wanted = new Set(chainIds);
  let bytes = 0;
  for (const layer of layers.list()) if (wanted.delete(layer.chainId)) bytes += layer.bytes;
  if (wanted.size > 0) throw new InternalError(`layer ${[...wanted][0]} vanished while its image was recorded`);
  return bytes;
}
