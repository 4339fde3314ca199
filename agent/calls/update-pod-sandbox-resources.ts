import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { updatePodResources } from "../../sandbox/update-pod-resources.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

export async function updatePodSandboxResources(
  { node }: Runtime,
  request: proto.v1.UpdatePodSandboxResourcesRequest,
): Promise<proto.v1.IUpdatePodSandboxResourcesResponse> {
  const pod = node.pods.resolve(required(request.pod_sandbox_id, "pod_sandbox_id"));
  const { overhead = null, resources = null } = request;
  await updatePodResources(node, pod, { overhead, resources });
  return {};
}
