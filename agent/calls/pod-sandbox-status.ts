import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { containerStatus as statusOfContainer } from "../container-status.js";
import { podStatus } from "../pod-status.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";
import { now } from "../states.js";

export function podSandboxStatus(
  runtime: Runtime,
  request: proto.v1.PodSandboxStatusRequest,
): proto.v1.IPodSandboxStatusResponse {
  const { node } = runtime;
  const pod = node.pods.resolve(required(request.pod_sandbox_id, "pod_sandbox_id"));
  const answer: proto.v1.IPodSandboxStatusResponse = {
    status: podStatus(pod),
    // the newest first: of several attempts of a container, the kubelet takes the first that it meets
    containers_statuses: node.containers
      .ofPod(pod.record.id)
      .sort((a, b) => Number(BigInt(b.record.createdAt) - BigInt(a.record.createdAt)))
      .map((container) => statusOfContainer(container, runtime.images)),
    timestamp: now(),
  };
  if (request.verbose) {
    const { network, netnsPath, monitorCgroup, cgroupParent, config } = pod.record;
    answer.info = {
      info: JSON.stringify({ pid: pod.monitorPid, netnsPath, monitorCgroup, cgroupParent, network, config }),
    };
  }
  return answer;
}
