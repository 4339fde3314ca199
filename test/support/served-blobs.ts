/** A registry of any blobs: by digest, whatever they are; for documents that no builder makes. */
import { createHash } from "node:crypto";
import type { BuiltImage } from "./image-builder.js";
import { type Answer, type LyingRegistry, startLyingRegistry } from "./lying-registry.js";

export interface ServedBlobs extends LyingRegistry {
  /** What the tag "1" means from now on. */
  document: { bytes: Buffer; type: string };
  /** Serves this, too. @returns its descriptor */
  add(bytes: Buffer | string, mediaType: string, algorithm?: "sha256" | "sha384" | "sha512"): BlobDescriptor;
}

export interface BlobDescriptor {
  mediaType: string;
  digest: string;
  size: number;
}

/** @param image its parts are served, too; its manifest is the tag's meaning at first */
export async function serveBlobs(image: BuiltImage, answer: Answer = () => false): Promise<ServedBlobs> {
  const blobs = new Map<string, { bytes: Buffer; type: string }>();
  const parts = [image.manifest, image.configuration, ...image.layers];
  for (const { digest, bytes, mediaType } of parts) blobs.set(digest, { bytes, type: mediaType });
  const registry = await startLyingRegistry(image, (request, response, path) => {
    if (answer(request, response, path)) return true;
    const last = decodeURIComponent(path.split("/").at(-1) ?? "");
    const blob = last === "1" ? served.document : blobs.get(last);
    if (blob === undefined) response.writeHead(404).end();
    else response.writeHead(200, { "content-type": blob.type, "content-length": blob.bytes.length }).end(blob.bytes);
    return true;
  });
  const served: ServedBlobs = {
    ...registry,
    document: { bytes: image.manifest.bytes, type: image.manifest.mediaType },
    add(content, mediaType, algorithm = "sha256") {
      const bytes = Buffer.from(content);
      const digest = `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`;
      blobs.set(digest, { bytes, type: mediaType });
      return { mediaType, digest, size: bytes.length };
    },
  };
  return served;
}
