import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { stopPod } from "../../sandbox/stop-pod.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** Stops what is there; a pod that is gone, or stopped already, is success. */
export async function stopPodSandbox(
  { node }: Runtime,
  request: proto.v1.StopPodSandboxRequest,
): Promise<proto.v1.IStopPodSandboxResponse> {
  const pod = node.pods.find(required(request.pod_sandbox_id, "pod_sandbox_id"));
  if (pod !== undefined) await stopPod(node, pod);
  return {};
}
