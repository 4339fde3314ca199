import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** With all its names; one that is not there is success. Containers keep the layers that they use. */
export async function removeImage(
  { images }: Runtime,
  request: proto.v1.RemoveImageRequest,
): Promise<proto.v1.IRemoveImageResponse> {
  await images.store.remove(required(required(request.image, "image").image, "image.image"));
  return {};
}
