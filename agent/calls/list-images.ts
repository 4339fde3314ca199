import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { describeImage } from "../image-status.js";
import type { Runtime } from "../runtime.js";

export function listImages({ images }: Runtime, request: proto.v1.ListImagesRequest): proto.v1.IListImagesResponse {
  const name = request.filter?.image?.image ?? "";
  if (name === "") return { images: images.store.list().map(describeImage) };
  const found = images.store.find(name);
  return { images: found === undefined ? [] : [describeImage(found)] };
}
