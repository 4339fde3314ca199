import Long from "long";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import type { Runtime } from "../runtime.js";

/** `berth image prune`: what no container uses and nobody has pinned; of that what has no tag, or all. */
export async function pruneImages(
  { images, node }: Runtime,
  request: proto.v1.PruneImagesRequest,
): Promise<proto.v1.IPruneImagesResponse> {
  const usedBytes = (): number => images.layers.list().reduce((sum, { bytes }) => sum + bytes, 0);
  const before = usedBytes();
  const removed: proto.v1.IImportedImage[] = [];
  for (const image of images.store.list()) {
    const inUse = node.containers.list().some(({ record }) => {
      return record.imageId === image.id || record.volumeLayers?.[image.id] !== undefined;
    });
    const wanted = request.all || image.repoTags.length === 0;
    if (!wanted || inUse || images.isPinned(image)) continue;
    await images.store.remove(image.id);
    removed.push({ id: image.id, names: image.repoTags });
  }
  return { images: removed, freed_bytes: Long.fromNumber(Math.max(0, before - usedBytes()), true) };
}
