/** Makes an archive of a layer again. */
import { UnimplementedError } from "../errors.js";
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
 * @param target an open file, written to where it stands; the caller removes what a failure leaves
 * @throws ResourceExhaustedError for a full disk, CancelledError, InternalError
 */
export async function packLayer(
  layers: LayerStore,
  chainId: string,
  target: number,
  signal: AbortSignal,
): Promise<PackedLayer> {
  if (layers.driver.wholeTrees) {
    throw new UnimplementedError(`layers of the storage driver ${layers.driver.name} cannot be made archives of yet`);
  }
  const args = ["pack", "--directory", layers.path(chainId)];
  const told = await runArchiveProgram(args, ["ignore", "pipe", "pipe", target], `layer ${chainId}`, signal);
  return JSON.parse(told) as PackedLayer;
}
