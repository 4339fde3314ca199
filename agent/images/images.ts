/** The image service of one node: records, pulls and imports, put together. */
import type { LayerStore } from "../../sandbox/rootfs/layer-store.js";
import { type ImageRecord, type ImageStore, type ImageStoreOptions, openImageStore } from "./image-store.js";
import { importImage } from "./import.js";
import { openLayerFetcher } from "./layer-fetcher.js";
import { type PullRequest, pullImage } from "./pull.js";
import { openRegistries } from "./registries.js";

export interface ImagesOptions extends ImageStoreOptions {
  /** certs.d: registries in containerd's hosts.toml format; it need not exist */
  registriesDirectory?: string;
}

export interface Images {
  readonly store: ImageStore;
  readonly layers: LayerStore;
  /** @throws BerthError of the kind that the CRI caller should see; nothing half-made stays */
  pull(request: PullRequest): Promise<ImageRecord>;
  /** Takes the images of an OCI layout (directory or archive) or a `docker save` archive. */
  import(path: string, signal?: AbortSignal): Promise<ImageRecord[]>;
}

export async function openImages(options: ImagesOptions): Promise<Images> {
  const store = await openImageStore(options);
  const deps = {
    images: store,
    layers: options.layers,
    fetcher: openLayerFetcher(options.layers),
    registries: openRegistries(options.registriesDirectory),
  };
  return {
    store,
    layers: options.layers,
    pull: (request) => pullImage(deps, request),
    import: (path, signal) => importImage(deps, path, signal),
  };
}
