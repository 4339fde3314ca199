/** What images take on the disk: of a layer that several have, each has all, and none has it for itself. */
import type { LayerRecord } from "../../sandbox/rootfs/layer-store.js";
import type { ImageRecord } from "./image-store.js";

export interface ImageUsage {
  image: ImageRecord;
  bytes: number;
  /** what removing it gives back when no container uses its layers */
  uniqueBytes: number;
}

export interface LayerUsage {
  layer: LayerRecord;
  /** ids */
  images: string[];
}

export function diskUsageOf(
  images: readonly ImageRecord[],
  layers: readonly LayerRecord[],
): { images: ImageUsage[]; layers: LayerUsage[] } {
  const usages = new Map(layers.map((layer) => [layer.chainId, { layer, images: [] as string[] }]));
  for (const image of images) for (const chainId of new Set(image.layers)) usages.get(chainId)?.images.push(image.id);
  return {
    images: images.map((image) => {
      let bytes = 0;
      let uniqueBytes = 0;
      for (const chainId of new Set(image.layers)) {
        const usage = usages.get(chainId);
        if (usage === undefined) continue;
        bytes += usage.layer.bytes;
        if (usage.images.length === 1) uniqueBytes += usage.layer.bytes;
      }
      return { image, bytes, uniqueBytes };
    }),
    layers: [...usages.values()],
  };
}
