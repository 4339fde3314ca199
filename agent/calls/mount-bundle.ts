import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { mountBundle as mount } from "../../sandbox/bundle.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** `berth inspect --bundle DIR ID`. */
export async function mountBundle(
  { node }: Runtime,
  request: proto.v1.MountBundleRequest,
): Promise<proto.v1.IMountBundleResponse> {
  const container = node.containers.resolve(required(request.container_id, "container_id"));
  await mount(node, container, required(request.directory, "directory"));
  return {};
}
