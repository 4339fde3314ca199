import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { describeImage, verboseInfo } from "../image-status.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** An image that is not there is no error: the answer has no image. */
export async function imageStatus(
  { images }: Runtime,
  request: proto.v1.ImageStatusRequest,
): Promise<proto.v1.IImageStatusResponse> {
  const name = required(required(request.image, "image").image, "image.image");
  const found = images.store.find(name);
  if (found === undefined) return {};
  return { image: describeImage(found, images), ...(request.verbose && { info: await verboseInfo(found, images) }) };
}
