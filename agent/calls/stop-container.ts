import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { stopContainer as stop } from "../../sandbox/stop-container.js";
import { required, secondsToMs } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** The stop signal, `timeout` seconds of grace, then a kill; a container that is gone or has ended is success. */
export async function stopContainer(
  { node }: Runtime,
  request: proto.v1.StopContainerRequest,
): Promise<proto.v1.IStopContainerResponse> {
  const graceMs = secondsToMs(request.timeout, "timeout");
  const container = node.containers.find(required(request.container_id, "container_id"));
  if (container !== undefined) await stop(node, container, graceMs);
  return {};
}
