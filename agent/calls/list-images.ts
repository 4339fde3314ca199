import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { describeImage, filteredImages } from "../image-status.js";
import type { Runtime } from "../runtime.js";

export function listImages({ images }: Runtime, request: proto.v1.ListImagesRequest): proto.v1.IListImagesResponse {
  return { images: filteredImages(images, request.filter).map((image) => describeImage(image, images)) };
}
