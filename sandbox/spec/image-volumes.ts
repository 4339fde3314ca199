/**
 * Image volumes in a spec. The OCI has no word for a mount that is an image: here it is a bind mount whose source is
 * "image:<image id>/<path within it>", and what opens sources (open-mounts.ts) or writes bundles (bundle.ts) knows it.
 */
const prefix = "image:";

export interface ImageVolumeSource {
  /** "sha256:..." */
  imageId: string;
  /** within the image; empty: all of it */
  subPath: string;
}

export function imageVolumeSource({ imageId, subPath }: ImageVolumeSource): string {
  return `${prefix}${imageId}/${subPath}`;
}

/** null: the source is a path of the host. */
export function parseImageVolumeSource(source: string): ImageVolumeSource | null {
  if (!source.startsWith(prefix)) return null;
  const slash = source.indexOf("/");
  return { imageId: source.slice(prefix.length, slash), subPath: source.slice(slash + 1) };
}
