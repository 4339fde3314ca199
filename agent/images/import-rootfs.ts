/** An image of one layer, from the tar of a root file system: what `tar -C ROOT -c .` or `docker export` writes. */
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { uncompressedDigest } from "../../sandbox/rootfs/read-archive.js";
import { isCompressed, openInput } from "./archive.js";
import { pieces } from "./file-pieces.js";
import { applyChanges } from "./image-changes.js";
import type { ImageRecord } from "./image-store.js";
import { type ImportDeps, type ImportRequest, tagOf } from "./import.js";
import { installImage } from "./install-image.js";
import { imagePlatform } from "./platform.js";

export interface RootfsImportRequest extends ImportRequest {
  /** "CMD ...", "ENV NAME=value" and so on: see image-changes.ts */
  changes?: readonly string[];
}

/**
 * The same file with the same changes makes the same image.
 * @throws NotFoundError when the path cannot be read, InvalidArgumentError when it is no file or a change is none
 */
export async function importRootfs(deps: ImportDeps, request: RootfsImportRequest): Promise<ImageRecord> {
  const { path } = request;
  const signal = request.signal ?? new AbortController().signal;
  const config = applyChanges(request.changes ?? []);
  const tags = request.name === undefined ? [] : [tagOf(request.name)];
  const file = await openInput(path);
  try {
    const status = await file.stat();
    if (!status.isFile()) throw new InvalidArgumentError(`${path} is a directory; a root file system comes as a tar`);
    await isCompressed(file, path);
    const diffId = await uncompressedDigest({ fd: file.fd, scratch: deps.scratch, signal });
    const created = status.mtime.toISOString();
    const configuration = {
      created,
      ...imagePlatform(),
      config,
      rootfs: { type: "layers", diff_ids: [diffId] },
      history: [{ created, created_by: "berth image import", comment: "imported from the tar of a root file system" }],
    };
    const image = {
      what: path,
      configuration: Buffer.from(JSON.stringify(configuration)),
      layers: [(stop: AbortSignal) => pieces(file, { offset: 0, size: status.size }, stop)],
      repoTags: tags,
      repoDigests: [],
    };
    return await installImage(deps, image, signal);
  } finally {
    await file.close();
  }
}
