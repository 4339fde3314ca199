/** Makes an archive of a layer again. */
import type { LayerStore } from "./layer-store.js";
import { runArchiveProgram } from "./read-archive.js";

export interface PackedLayer {
  /** "sha256:<hex>" of the uncompressed archive */
  diffId: string;
  /** of what was written */
  digest: string;
  bytes: number;
}

/**
 * Writes a layer as a tar with gzip. The archive depends on the layer alone; but it is not the one that the layer came in:
 * nobody keeps in which order, and with which headers, that was written.
 * @param below chain id of the layer below; absent: there is none
 * @param target an open file, written to where it stands; the caller removes what a failure leaves
 * @throws ResourceExhaustedError for a full disk, CancelledError, InternalError
 */
export async function packLayer(
  layers: LayerStore,
  chainId: string,
  below: string | undefined,
  target: number,
  signal: AbortSignal,
): Promise<PackedLayer> {
  const isDifference = layers.driver.wholeTrees && below !== undefined;
  const args = ["pack", "--directory", layers.path(chainId), ...(isDifference ? ["--lower", layers.path(below)] : [])];
  const hide = await layers.show(isDifference ? [chainId, below] : [chainId]);
  try {
    const told = await runArchiveProgram(
      args,
      ["ignore", "pipe", "pipe", target],
      `layer ${chainId} could not be read`,
      signal,
    );
    return JSON.parse(told) as PackedLayer;
  } finally {
    await hide();
  }
}
