/** An image service on a directory of its own, for tests. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Images, openImages } from "../../agent/images/images.js";
import type { Patience } from "../../agent/images/transient.js";
import type { StorageDriverName } from "../../sandbox/rootfs/drivers/driver.js";
import { openStorageDriver } from "../../sandbox/rootfs/drivers/open.js";
import { type LayerStore, openLayerStore } from "../../sandbox/rootfs/layer-store.js";

export interface TestImages {
  root: string;
  images: Images;
  layers: LayerStore;
  /** names under `<root>/layers`, staging included; deletions have ended */
  layerNames(): Promise<string[]>;
  close(): Promise<void>;
}

export async function openTestImages(
  options: {
    registriesDirectories?: string[];
    inUse?: () => Iterable<string>;
    root?: string;
    patience?: Patience;
    driver?: StorageDriverName;
  } = {},
): Promise<TestImages> {
  const root = options.root ?? (await mkdtemp(join(tmpdir(), "berth-images-")));
  const layers = await openLayerStore(root, await openStorageDriver(options.driver ?? "overlay", root));
  const images = await openImages({ ...options, root, layers });
  return {
    root,
    images,
    layers,
    async layerNames() {
      await layers.settle();
      return (await readdir(join(root, "layers"))).sort();
    },
    async close() {
      await layers.settle();
      layers.driver.close?.();
      await rm(root, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
