import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { updateContainer } from "../../sandbox/update-container.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

export async function updateContainerResources(
  { node }: Runtime,
  request: proto.v1.UpdateContainerResourcesRequest,
): Promise<proto.v1.IUpdateContainerResourcesResponse> {
  const container = node.containers.resolve(required(request.container_id, "container_id"));
  await updateContainer(node, container, required(request.linux, "linux"));
  return {};
}
