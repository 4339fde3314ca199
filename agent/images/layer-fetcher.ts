import type { LayerStore } from "../../sandbox/rootfs/layer-store.js";

export interface LayerFetcher {
  readonly layers: LayerStore;
}
export function openLayerFetcher(layers: LayerStore): LayerFetcher {
  return { layers };
}
