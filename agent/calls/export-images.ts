import { isAbsolute } from "node:path";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** `berth image export`: to the agent's own file system. */
export async function exportImages(
  { images }: Runtime,
  request: proto.v1.ExportImagesRequest,
  signal: AbortSignal,
): Promise<proto.v1.IExportImagesResponse> {
  const path = required(request.path, "path");
  if (!isAbsolute(path)) throw new InvalidArgumentError(`path: ${JSON.stringify(path)} is not absolute`);
  const exported = await images.export({ images: request.images, path, signal });
  return {
    images: exported.map(({ image, id, digest }) => ({ id: image.id, names: image.repoTags, exported_id: id, digest })),
  };
}
