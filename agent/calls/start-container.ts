import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { startContainer as start } from "../../sandbox/start-container.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** Only a created container can be started: one that runs, or has ended, is FAILED_PRECONDITION. */
export async function startContainer(
  { node }: Runtime,
  request: proto.v1.StartContainerRequest,
): Promise<proto.v1.IStartContainerResponse> {
  await start(node, node.containers.resolve(required(request.container_id, "container_id")));
  return {};
}
