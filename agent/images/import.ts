import { InternalError } from "../../sandbox/errors.js";
import type { ImageRecord } from "./image-store.js";
import type { PullDeps } from "./pull.js";

/** Takes the images of an OCI layout (directory or tar) or a `docker save` archive into the store. */
export async function importImage(_deps: PullDeps, path: string, _signal?: AbortSignal): Promise<ImageRecord[]> {
  throw new InternalError(`importing ${path} is not there yet`);
}
