import Long from "long";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { layersInUse } from "../../sandbox/container.js";
import { diskUsageOf } from "../images/disk-usage.js";
import type { Runtime } from "../runtime.js";

/** `berth image du`. */
export async function imageDiskUsage(
  { images, node }: Runtime,
  _request: proto.v1.IImageDiskUsageRequest,
): Promise<proto.v1.IImageDiskUsageResponse> {
  const containers = node.containers.list().map(({ record }) => record);
  const usage = diskUsageOf(images.store.list(), images.layers.list());
  const ofImage = new Map<string, number>();
  const ofLayer = new Map<string, number>();
  for (const record of containers) {
    ofImage.set(record.imageId, (ofImage.get(record.imageId) ?? 0) + 1);
    for (const chainId of new Set(layersInUse(record))) ofLayer.set(chainId, (ofLayer.get(chainId) ?? 0) + 1);
  }
  let writtenBytes = 0;
  for (const { id } of containers) {
    // one that is being removed has written nothing
    writtenBytes += (await node.snapshots.writableLayerUsage(id).catch(() => undefined))?.bytes ?? 0;
  }
  return {
    images: usage.images.map(({ image, bytes, uniqueBytes }) => ({
      id: image.id,
      names: image.repoTags.length > 0 ? image.repoTags : image.repoDigests,
      bytes: count(bytes),
      unique_bytes: count(uniqueBytes),
      containers: count(ofImage.get(image.id) ?? 0),
    })),
    layers: usage.layers.map(({ layer, images: ids }) => ({
      chain_id: layer.chainId,
      bytes: count(layer.bytes),
      inodes: count(layer.inodes),
      images: ids,
      containers: count(ofLayer.get(layer.chainId) ?? 0),
    })),
    written_bytes: count(writtenBytes),
  };
}

function count(value: number): Long {
  return Long.fromNumber(value, true);
}
