import type { runtime as proto } from "../cri-proto/generated/runtime.js";
import type { ImageRecord } from "./images/image-store.js";
import type { Images } from "./images/images.js";
import { toInt64, toUint64 } from "./states.js";

/** An image as the CRI's lists and statuses show it. */
export function describeImage(image: ImageRecord, images: Pick<Images, "isPinned">): proto.v1.IImage {
  return {
    id: image.id,
    repo_tags: image.repoTags,
    repo_digests: image.repoDigests,
    size: toUint64(image.sizeBytes).value,
    pinned: images.isPinned(image),
    ...(image.annotations && { spec: { annotations: image.annotations } }),
    ...imageUser(image.config.config.User),
  };
}

/** Longer ones are nobody's: the lists of images must stay small. */
const maxNameLength = 256;

/** The user that the image names, as a number or as a name; its group is not asked for. */
function imageUser(user: string): Pick<proto.v1.IImage, "uid" | "username"> {
  const name = user.split(":")[0] ?? "";
  if (name === "" || name.length > maxNameLength) return {};
  return /^[0-9]{1,18}$/.test(name) ? { uid: { value: toInt64(name) } } : { username: name };
}

/** All images, or the one that the filter names, in any form that it can be named by. */
export function filteredImages(images: Images, filter: proto.v1.IImageFilter | null | undefined): ImageRecord[] {
  const name = filter?.image?.image ?? "";
  if (name === "") return images.store.list();
  const found = images.store.find(name);
  return found === undefined ? [] : [found];
}

/**
 * What ImageStatus tells when it is asked to be verbose: one JSON text, whose `chainID` and `imageSpec` are containerd's.
 * `imageSpec` is the whole configuration as the image brought it.
 */
export async function verboseInfo(image: ImageRecord, images: Images): Promise<Record<string, string>> {
  const { parsed, config } = await images.store.configurationOf(image);
  const records = new Map(images.layers.list().map((layer) => [layer.chainId, layer]));
  const layers = image.layers.map((chainId, index) => ({
    chainID: chainId,
    diffID: image.config.rootfs.diff_ids[index],
    bytes: records.get(chainId)?.bytes ?? 0,
    inodes: records.get(chainId)?.inodes ?? 0,
  }));
  return {
    info: JSON.stringify({
      chainID: image.layers.at(-1) ?? "",
      imageSpec: parsed,
      labels: config.config.Labels,
      annotations: image.annotations ?? {},
      layers,
      pulledAt: new Date(Number(BigInt(image.pulledAt) / 1_000_000n)).toISOString(),
    }),
  };
}
