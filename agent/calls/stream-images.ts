import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { describeImage, filteredImages } from "../image-status.js";
import { inPieces } from "../pieces.js";
import type { Runtime } from "../runtime.js";

/** ListImages in pieces, for nodes whose images do not fit into one message. */
export async function* streamImages(
  { images }: Runtime,
  request: proto.v1.StreamImagesRequest,
): AsyncGenerator<proto.v1.IStreamImagesResponse> {
  const described = filteredImages(images, request.filter).map((image) => describeImage(image, images));
  for (const piece of inPieces(described, proto.v1.Image)) yield { images: piece };
}
