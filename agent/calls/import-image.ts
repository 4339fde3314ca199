import { isAbsolute } from "node:path";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** `berth image import`: an OCI layout or a `docker save` archive on the agent's own file system. */
export async function importImage(
  { images }: Runtime,
  request: proto.v1.ImportImageRequest,
  signal: AbortSignal,
): Promise<proto.v1.IImportImageResponse> {
  const path = required(request.path, "path");
  if (!isAbsolute(path)) throw new InvalidArgumentError(`path: ${JSON.stringify(path)} is not absolute`);
  const imported = await images.import(path, signal);
  return { images: imported.map(({ id, repoTags }) => ({ id, names: repoTags })) };
}
