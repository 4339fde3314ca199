import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { resourcesInForce } from "../../sandbox/resources-in-force.js";
import { completeSpec } from "../../sandbox/seccomp-filters.js";
import { containerStatus as statusOf } from "../container-status.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

export async function containerStatus(
  { node, images }: Runtime,
  request: proto.v1.ContainerStatusRequest,
): Promise<proto.v1.IContainerStatusResponse> {
  const container = node.containers.resolve(required(request.container_id, "container_id"));
  const answer: proto.v1.IContainerStatusResponse = {
    status: { ...statusOf(container, images), resources: { linux: await resourcesInForce(node, container) } },
  };
  if (request.verbose) {
    const { podId, spec, config, cgroupPath, layers } = container.record;
    // the first three are what tools look for in every runtime's answer
    const info = {
      sandboxID: podId,
      pid: container.pid,
      runtimeSpec: spec && completeSpec(spec),
      config,
      cgroupPath,
      layers,
    };
    answer.info = { info: JSON.stringify(info) };
  }
  return answer;
}
