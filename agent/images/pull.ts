import { InternalError } from "../../sandbox/errors.js";
import type { LayerStore } from "../../sandbox/rootfs/layer-store.js";
import type { ImageRecord, ImageStore } from "./image-store.js";
import type { LayerFetcher } from "./layer-fetcher.js";
import type { Registries } from "./registries.js";

/** The CRI's AuthConfig; empty strings are as good as absent. Never logged. */
export interface RegistryAuth {
  username?: string;
  password?: string;
  /** base64 of "username:password" */
  auth?: string;
  serverAddress?: string;
  /** an OAuth2 refresh token */
  identityToken?: string;
  /** a bearer token for the registry itself */
  registryToken?: string;
}

export interface PullRequest {
  /** in any familiar form */
  reference: string;
  auth?: RegistryAuth;
  signal?: AbortSignal;
}

export interface PullDeps {
  images: ImageStore;
  layers: LayerStore;
  fetcher: LayerFetcher;
  registries: Registries;
}

/** Pulls an image. Calls for the same reference with the same credentials share one flight. */
export async function pullImage(_deps: PullDeps, request: PullRequest): Promise<ImageRecord> {
  throw new InternalError(`pulling ${request.reference} is not there yet`);
}
