import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { removePod } from "../../sandbox/remove-pod.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** Removes a pod with everything in it, by force; one that is gone is success. */
export async function removePodSandbox(
  { node }: Runtime,
  request: proto.v1.RemovePodSandboxRequest,
): Promise<proto.v1.IRemovePodSandboxResponse> {
  const pod = node.pods.find(required(request.pod_sandbox_id, "pod_sandbox_id"));
  if (pod !== undefined) await removePod(node, pod);
  return {};
}
