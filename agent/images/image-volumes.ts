/** The images that a container's mounts name, found before the container is made. */
import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { NotFoundError } from "../../sandbox/errors.js";
import type { ImageStore } from "./image-store.js";

export interface ImageVolumes {
  /** the config with each image's id in its image_ref: what is mounted, and what ContainerStatus tells */
  config: proto.v1.IContainerConfig;
  /** chain ids by image id, bottom first */
  volumeLayers: Record<string, string[]>;
}

/** @throws NotFoundError that names the mount; the kubelet knows it by its first word */
export function resolveImageVolumes(config: proto.v1.IContainerConfig, images: Pick<ImageStore, "find">): ImageVolumes {
  const volumeLayers: Record<string, string[]> = {};
  if (!config.mounts?.some(({ image }) => image)) return { config, volumeLayers };
  const mounts = config.mounts.map((mount, index) => {
    const name = mount.image?.image;
    if (!mount.image) return mount;
    // the reference is the answer's, and names nothing by itself
    if (!name) return { ...mount, image: { ...mount.image, image_ref: "" } };
    const found = images.find(name);
    if (found === undefined) {
      throw new NotFoundError(
        `ImageVolumeMountFailed: config.mounts[${index}].image: image ${JSON.stringify(name)} is not on this node; pull it first`,
      );
    }
    volumeLayers[found.id] = found.layers;
    return { ...mount, image: { ...mount.image, image_ref: found.id } };
  });
  return { config: { ...config, mounts }, volumeLayers };
}
