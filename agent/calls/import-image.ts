import { isAbsolute } from "node:path";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** `berth image import`: of the agent's own file system. */
export async function importImage(
  { images }: Runtime,
  request: proto.v1.ImportImageRequest,
  signal: AbortSignal,
): Promise<proto.v1.IImportImageResponse> {
  const path = required(request.path, "path");
  if (!isAbsolute(path)) throw new InvalidArgumentError(`path: ${JSON.stringify(path)} is not absolute`);
  const { changes, root_filesystem } = request;
  if (!root_filesystem && changes.length > 0) {
    throw new InvalidArgumentError("changes: only an image that is made of a root file system can be changed");
  }
  const named = { path, signal, ...(request.name !== "" && { name: request.name }) };
  const imported = root_filesystem ? [await images.importRootfs({ ...named, changes })] : await images.import(named);
  return { images: imported.map(({ id, repoTags }) => ({ id, names: repoTags })) };
}
