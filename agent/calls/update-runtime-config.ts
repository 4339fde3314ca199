import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import type { Runtime } from "../runtime.js";

/** The node's pod CIDR, told by the kubelet. An empty one (a node that has none yet) changes nothing. */
export async function updateRuntimeConfig(
  { node }: Runtime,
  request: proto.v1.UpdateRuntimeConfigRequest,
): Promise<proto.v1.IUpdateRuntimeConfigResponse> {
  const cidr = request.runtime_config?.network_config?.pod_cidr ?? "";
  if (cidr !== "") await node.network.setPodCidr(cidr);
  return {};
}
