import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { matchesPod } from "../filters.js";
import { podStats } from "../pod-stats.js";
import type { Runtime } from "../runtime.js";

/** Of the pods that are ready: the others use nothing any more. */
export async function listPodSandboxStats(
  runtime: Runtime,
  request: proto.v1.ListPodSandboxStatsRequest,
): Promise<proto.v1.IListPodSandboxStatsResponse> {
  const pods = runtime.node.pods
    .list()
    .filter((pod) => pod.record.phase === "ready" && matchesPod(pod, request.filter));
  return { stats: await podStats(runtime, pods) };
}
