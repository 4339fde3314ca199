import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** For `berth kube`: images that will be wanted. */
export async function prefetchImage(
  { images }: Runtime,
  request: proto.v1.PrefetchImageRequest,
  signal: AbortSignal,
): Promise<proto.v1.IPrefetchImageResponse> {
  const reference = required(request.image, "image");
  const bytesPerSecond = Number(request.bytes_per_second);
  const { id } = await images.prefetch({ reference, signal, ...(bytesPerSecond > 0 && { bytesPerSecond }) });
  return { image_ref: id };
}
