/** The image service of one node: records, pulls and imports, put together. */
import { join } from "node:path";
import { Observer } from "../../sandbox/observer.js";
import type { LayerStore } from "../../sandbox/rootfs/layer-store.js";
import { DownloadSlots } from "./download-slots.js";
import { type ExportedImage, type ExportRequest, exportImages } from "./export.js";
import { type ImagePattern, matchesImage } from "./image-patterns.js";
import { type ImageRecord, type ImageStore, type ImageStoreOptions, openImageStore } from "./image-store.js";
import { type ImportRequest, importImages } from "./import.js";
import { importRootfs, type RootfsImportRequest } from "./import-rootfs.js";
import { openLayerFetcher } from "./layer-fetcher.js";
import { type PrefetchRequest, prefetchImage } from "./prefetch.js";
import { type PullRequest, pullImage, pullProgress } from "./pull.js";
import { openRegistries } from "./registries.js";
import { type PullProgress, RunningPulls } from "./running-pulls.js";
import { Transfers } from "./transfers.js";
import { type Patience, usualPatience } from "./transient.js";

export interface ImagesOptions extends ImageStoreOptions {
  /** certs.d: registries in containerd's hosts.toml format; they need not exist */
  registriesDirectories?: readonly string[];
  /** images that nobody removes on their own account: the kubelet's garbage collection, `berth image prune` */
  pinned?: () => readonly ImagePattern[];
  /** is told of pulls, of their steps and bytes */
  observer?: Observer;
  /** absent: the usual one */
  patience?: Patience;
}

export interface Images {
  readonly store: ImageStore;
  readonly layers: LayerStore;
  isPinned(image: ImageRecord): boolean;
  /** @throws BerthError of the kind that the CRI caller should see; nothing half-made stays */
  pull(request: PullRequest): Promise<ImageRecord>;
  /** How far the pull of this reference with these credentials is; undefined: none runs. */
  progressOf(request: PullRequest): PullProgress | undefined;
  /** A pull that gives way to all others. */
  prefetch(request: PrefetchRequest): Promise<ImageRecord>;
  /** Takes the images of an OCI layout or a `docker save` archive. */
  import(request: ImportRequest): Promise<ImageRecord[]>;
  /** Makes an image of the tar of a root file system. */
  importRootfs(request: RootfsImportRequest): Promise<ImageRecord>;
  /** Writes images as an OCI layout. */
  export(request: ExportRequest): Promise<ExportedImage[]>;
}

export async function openImages(options: ImagesOptions): Promise<Images> {
  const store = await openImageStore(options);
  const observer = options.observer ?? new Observer();
  const transfers = new Transfers(observer);
  const pulls = new RunningPulls(observer);
  const deps = {
    images: store,
    // what a crash leaves in there is swept with half-made layers
    scratch: join(options.root, "layers"),
    layers: options.layers,
    transfers,
    pulls,
    observer,
    patience: options.patience ?? usualPatience,
    slots: new DownloadSlots(),
    fetcher: openLayerFetcher(options.layers, transfers),
    registries: openRegistries(options.registriesDirectories),
  };
  const pull = (request: PullRequest): Promise<ImageRecord> => pullImage(deps, request);
  return {
    store,
    layers: options.layers,
    isPinned: (image) => matchesImage(options.pinned?.() ?? [], image),
    pull,
    progressOf: (request) => pullProgress(deps, request),
    prefetch: (request) => prefetchImage(pulls, pull, request),
    import: (request) => importImages(deps, request),
    export: (request) => exportImages(deps, request),
    importRootfs: (request) => importRootfs(deps, request),
  };
}
