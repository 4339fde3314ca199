import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { reopenLog } from "../../sandbox/reopen-log.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** After the kubelet has renamed the log file: what comes next goes into a new one. */
export async function reopenContainerLog(
  { node }: Runtime,
  request: proto.v1.ReopenContainerLogRequest,
): Promise<proto.v1.IReopenContainerLogResponse> {
  await reopenLog(node, node.containers.resolve(required(request.container_id, "container_id")));
  return {};
}
