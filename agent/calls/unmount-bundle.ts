import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { unmountBundle as unmount } from "../../sandbox/bundle.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** `berth inspect --bundle DIR --unmount`. */
export async function unmountBundle(
  { node }: Runtime,
  request: proto.v1.UnmountBundleRequest,
): Promise<proto.v1.IUnmountBundleResponse> {
  await unmount(node, required(request.directory, "directory"));
  return {};
}
