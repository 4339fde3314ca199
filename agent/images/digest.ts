import { createHash } from "node:crypto";
import { InternalError } from "../../sandbox/errors.js";

/** The algorithms that registries use; the OCI image specification names the first and the last. */
export type DigestAlgorithm = "sha256" | "sha384" | "sha512";

export const digestPattern = /^(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})$/;

/** "<algorithm>:<hex>" */
export function digestOf(bytes: Uint8Array | string, algorithm: DigestAlgorithm = "sha256"): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`;
}

/** Of a digest that digestPattern fits. */
export function algorithmOf(digest: string): DigestAlgorithm {
  return digest.slice(0, digest.indexOf(":")) as DigestAlgorithm;
}

/** The OCI image specification's chain ids of layers, bottom first. */
export function chainIdsOf(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : digestOf(`${below} ${diffId}`));
  }
  return chain;
}

/**
 * Passes bytes on and checks them against what a descriptor promised: nothing beyond the size is passed on, and the last
 * step fails when the digest or the size differs.
 * @throws InternalError that names both digests or sizes
 */
export async function* verified(
  source: AsyncIterable<Uint8Array>,
  promised: { digest: string; size: number },
): AsyncGenerator<Uint8Array> {
  const algorithm = algorithmOf(promised.digest);
  const hash = createHash(algorithm);
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > promised.size) {
      throw new InternalError(`blob ${promised.digest} is longer than the ${promised.size} bytes of its descriptor`);
    }
    hash.update(chunk);
    yield chunk;
  }
  if (bytes < promised.size) {
    throw new InternalError(`blob ${promised.digest} has ${bytes} bytes, its descriptor says ${promised.size}`);
  }
  const digest = `${algorithm}:${hash.digest("hex")}`;
  if (digest !== promised.digest) {
    throw new InternalError(`blob ${promised.digest} has other content: its digest is ${digest}`);
  }
}

/** All bytes of a source that is known to be small. */
export async function readAll(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}
