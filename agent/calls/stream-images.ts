import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { describeImage, filteredImages } from "../image-status.js";
import type { Runtime } from "../runtime.js";

/** One message holds no more than either, except for an image that is larger by itself. */
const maxImages = 200;
const maxBytes = 1024 * 1024;

/** ListImages in pieces, for nodes whose images do not fit into one message. */
export async function* streamImages(
  { images }: Runtime,
  request: proto.v1.StreamImagesRequest,
): AsyncGenerator<proto.v1.IStreamImagesResponse> {
  const described = filteredImages(images, request.filter).map((image) => describeImage(image, images));
  for (const piece of inPieces(described)) yield { images: piece };
}

export function* inPieces(images: readonly proto.v1.IImage[]): Generator<proto.v1.IImage[]> {
  let piece: proto.v1.IImage[] = [];
  let bytes = 0;
  for (const image of images) {
    const size = proto.v1.Image.encode(image).finish().length;
    if (piece.length === maxImages || (piece.length > 0 && bytes + size > maxBytes)) {
      yield piece;
      piece = [];
      bytes = 0;
    }
    piece.push(image);
    bytes += size;
  }
  if (piece.length > 0) yield piece;
}
