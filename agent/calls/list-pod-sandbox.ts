import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import type { Pod } from "../../sandbox/pod.js";
import { matchesPod } from "../filters.js";
import type { Runtime } from "../runtime.js";
import { podState, toInt64 } from "../states.js";
import { withinList } from "../texts.js";

export function listPodSandbox(
  runtime: Runtime,
  request: proto.v1.ListPodSandboxRequest,
): proto.v1.IListPodSandboxResponse {
  return { items: withinList(listedPods(runtime, request.filter), runtime.node.observer) };
}

/** With all of their annotations. */
export function listedPods(
  { node }: Runtime,
  filter: proto.v1.IPodSandboxFilter | null | undefined,
): proto.v1.IPodSandbox[] {
  return node.pods
    .list()
    .filter((pod) => matchesPod(pod, filter))
    .map(listed);
}

function listed(pod: Pod): proto.v1.IPodSandbox {
  return {
    id: pod.record.id,
    metadata: pod.config.metadata ?? null,
    state: podState(pod),
    created_at: toInt64(pod.record.createdAt),
    labels: pod.config.labels ?? {},
    annotations: pod.config.annotations ?? {},
    runtime_handler: pod.record.runtimeHandler,
  };
}
