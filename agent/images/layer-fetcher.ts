/**
 * Brings layers into the layer store: source → sha256 → unpacker, no compressed blob on disk, three at a time. Layers are
 * unpacked in any order, but become visible from the bottom up. Whoever else wants the same layer joins.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { isSystemError, native } from "../../native/binding.js";
import { InternalError, messageOf } from "../../sandbox/errors.js";
import { Flights } from "../../sandbox/flights.js";
import type { LayerStaging, LayerStore } from "../../sandbox/rootfs/layer-store.js";
import { maxLayerBytes, type UnpackedLayer, unpackLayer } from "../../sandbox/rootfs/unpack-layer.js";
import { type Transfers, transferKey, type WantedLayer } from "./transfers.js";

export interface LayerSource extends WantedLayer {
  /** The layer as it comes, compressed or not; fails when it is not what was promised. A piece is valid until the next one
   *  is asked for. */
  open(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface LayerFetcher {
  /** @param sources bottom first; layers that are there already are not opened */
  ensure(sources: readonly LayerSource[], signal: AbortSignal): Promise<void>;
}

const layersAtOnce = 3;

export function openLayerFetcher(layers: LayerStore, transfers: Transfers): LayerFetcher {
  const flights = new Flights<void>();
  const bring = async (source: LayerSource, lower: readonly LayerSource[], signal: AbortSignal): Promise<void> => {
    for (;;) {
      let isOwn = false;
      try {
        return await flights.join(transferKey(source), signal, (flightSignal) => {
          isOwn = true;
          return fetchLayer({ layers, transfers, flights, source, lower, signal: flightSignal });
        });
      } catch (error) {
        // another one's source may have failed, or lied: ours need not
        if (isOwn || signal.aborted) throw error;
      }
    }
  };
  return {
    async ensure(sources, signal) {
      const stop = new AbortController();
      const either = AbortSignal.any([signal, stop.signal]);
      let next = 0;
      let failure: { error: unknown } | undefined;
      const work = async (): Promise<void> => {
        while (next < sources.length && failure === undefined) {
          const index = next++;
          const source = sources[index] as LayerSource;
          if (layers.has(source.chainId)) continue;
          try {
            await bring(source, sources.slice(0, index), either);
          } catch (error) {
            failure ??= { error };
            stop.abort();
          }
        }
      };
      await Promise.all(Array.from({ length: layersAtOnce }, work));
      if (failure !== undefined) throw failure.error;
    },
  };
}

interface Fetch {
  layers: LayerStore;
  transfers: Transfers;
  flights: Flights<void>;
  source: LayerSource;
  /** bottom first */
  lower: readonly LayerSource[];
  signal: AbortSignal;
}

/** Resolves when the layer is in the store. @throws the last failure, when nobody brings it any more */
async function brought({ layers, flights }: Fetch, layer: LayerSource): Promise<void> {
  let failure: unknown;
  let hasWaited = false;
  while (!layers.has(layer.chainId)) {
    const flight = flights.running(transferKey(layer));
    if (flight === undefined && hasWaited) {
      throw failure ?? new InternalError(`the layer ${layer.chainId} did not come`);
    }
    hasWaited = flight === undefined;
    try {
      // whoever joined a flight that has just failed, or was cancelled, begins another one within this turn
      await (flight ?? nextTurn());
    } catch (error) {
      failure = error;
    }
  }
}

async function fetchLayer(fetch: Fetch): Promise<void> {
  const { layers, transfers, source, signal } = fetch;
  if (layers.has(source.chainId)) return;
  const { wholeTrees: apply } = layers.driver;
  const lower = fetch.lower.map(({ chainId }) => chainId);
  const top = fetch.lower.at(-1);
  const below = top && brought(fetch, top);
  below?.catch(() => undefined);
  // it begins as what is below it
  if (apply) await below;
  const transfer = transfers.begin(source);
  const staging = await layers.stage(source.chainId, lower.at(-1));
  try {
    const bytes = transfer.follow(source.open(signal), signal);
    const unpacked = await unpackLayer({
      directory: staging.directory,
      source: bytes,
      apply,
      below: lower.length > 0,
      signal,
      onStart: transfer.unpackedBy,
    });
    transfer.unpacked();
    if (unpacked.diffId !== source.diffId) {
      throw new InternalError(
        `the image's configuration promises a layer with diff id ${source.diffId}, but it has ${unpacked.diffId}`,
      );
    }
    await below;
    const copied = apply ? 0 : await complete(layers, staging, unpacked, lower);
    const { diffId, bytes: size, inodes, rootIsOpaque } = unpacked;
    await layers.commit(staging, { diffId, bytes: size + copied, inodes, ...(rootIsOpaque && { hidesBelow: true }) });
    transfer.committed();
  } catch (error) {
    await layers.abort(staging);
    throw error;
  }
}

/**
 * What is unpacked without the layers below may need them: directories that the layer does not describe look as below, as if they
 * had been unpacked one upon another; hard links to files of theirs become copies.
 * @returns the bytes of those
 */
async function complete(
  layers: LayerStore,
  staging: LayerStaging,
  unpacked: UnpackedLayer,
  lower: readonly string[],
): Promise<number> {
  const { directory } = staging;
  const directories = lower.map((chainId) => layers.path(chainId)).reverse();
  // at the bottom, only directories of whiteouts alone are asked for
  if (directories.length === 0 && !unpacked.implicit.includes("/")) return 0;
  const root = unpacked.rootIsImplicit && directories.length > 0 ? Buffer.from("\0") : Buffer.alloc(0);
  const paths = Buffer.concat([root, unpacked.implicit]);
  if (paths.length === 0) return 0;
  const limitBytes = Math.max(0, maxLayerBytes - unpacked.bytes);
  try {
    return await native.inheritDirectories({ directory, lower: directories, paths, limitBytes });
  } catch (error) {
    if (!isSystemError(error) || !["ENOENT", "EFBIG"].includes(error.errnoName)) throw error;
    throw new InternalError(`the layer could not be unpacked: ${messageOf(error)}`, { cause: error });
  }
}
