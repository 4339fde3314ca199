import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { removeContainer as remove } from "../../sandbox/remove-container.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** A running one is killed first; one that is gone is success. */
export async function removeContainer(
  { node }: Runtime,
  request: proto.v1.RemoveContainerRequest,
): Promise<proto.v1.IRemoveContainerResponse> {
  const container = node.containers.find(required(request.container_id, "container_id"));
  if (container !== undefined) await remove(node, container);
  return {};
}
