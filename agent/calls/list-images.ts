import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { encodedAnswer, KnownPieces } from "../encoded-answer.js";
import { describeImage, filteredImages } from "../image-status.js";
import type { ImageRecord } from "../images/image-store.js";
import type { Runtime } from "../runtime.js";
import { textsFitIntoList, withShortTexts } from "../texts.js";

/** By their records, which are not changed but replaced; what is pinned is the configuration's. */
const known = new KnownPieces<ImageRecord>();
const knownShort = new KnownPieces<ImageRecord>();

export function listImages(
  { images, node }: Runtime,
  request: proto.v1.ListImagesRequest,
): proto.v1.IListImagesResponse {
  const listed = filteredImages(images, request.filter);
  const isWhole = textsFitIntoList(listed);
  if (!isWhole) {
    const what = "annotations of all images together are too long for a list: values of more than 1 KiB are left out";
    node.observer.limitation("image-annotations", what);
  }
  const pieces = listed.map((image) =>
    (isWhole ? known : knownShort).of(image, String(images.isPinned(image)), () => {
      const described = describeImage(isWhole ? image : withShortTexts(image), images);
      return proto.v1.ListImagesResponse.encode({ images: [described] }).finish();
    }),
  );
  return encodedAnswer(pieces);
}
