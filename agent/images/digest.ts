import { createHash } from "node:crypto";
import { InternalError } from "../../sandbox/errors.js";

export const digestPattern = /^sha256:[0-9a-f]{64}$/;

/** "sha256:<hex>" */
export function digestOf(bytes: Uint8Array | string): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
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
  const hash = createHash("sha256");
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
  const digest = `sha256:${hash.digest("hex")}`;
  if (digest !== promised.digest) {
    throw new InternalError(`blob ${promised.digest} has other content: its digest is ${digest}`);
  }
}

/** All bytes of a source that is known to be small. */
export async function readAll(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}
