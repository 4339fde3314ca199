import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { encodedAnswer, KnownPieces } from "../encoded-answer.js";
import { describeImage, filteredImages } from "../image-status.js";
import type { ImageRecord } from "../images/image-store.js";
import type { Runtime } from "../runtime.js";

/** By their records, which are not changed but replaced; what is pinned is the configuration's. */
const known = new KnownPieces<ImageRecord>();

export function listImages({ images }: Runtime, request: proto.v1.ListImagesRequest): proto.v1.IListImagesResponse {
  const pieces = filteredImages(images, request.filter).map((image) =>
    known.of(image, String(images.isPinned(image)), () =>
      proto.v1.ListImagesResponse.encode({ images: [describeImage(image, images)] }).finish(),
    ),
  );
  return encodedAnswer(pieces);
}
