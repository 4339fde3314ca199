import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { encodedAnswer } from "../encoded-answer.js";
import { describeImage, filteredImages } from "../image-status.js";
import type { ImageRecord } from "../images/image-store.js";
import type { Images } from "../images/images.js";
import type { Runtime } from "../runtime.js";

/** The kubelet lists its images every few seconds, and they hardly ever change: hundreds take milliseconds to encode. */
const known = new WeakMap<ImageRecord, { pinned: boolean; bytes: Uint8Array }>();

export function listImages({ images }: Runtime, request: proto.v1.ListImagesRequest): proto.v1.IListImagesResponse {
  return encodedAnswer(filteredImages(images, request.filter).map((image) => encodedImage(image, images)));
}

/** An answer with this image alone. Records are not changed but replaced; what is pinned is the configuration's. */
function encodedImage(image: ImageRecord, images: Images): Uint8Array {
  const before = known.get(image);
  if (before?.pinned === images.isPinned(image)) return before.bytes;
  const described = describeImage(image, images);
  const bytes = proto.v1.ListImagesResponse.encode({ images: [described] }).finish();
  known.set(image, { pinned: described.pinned ?? false, bytes });
  return bytes;
}
