import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { podStats } from "../pod-stats.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

export async function podSandboxStats(
  runtime: Runtime,
  request: proto.v1.PodSandboxStatsRequest,
): Promise<proto.v1.IPodSandboxStatsResponse> {
  const pod = runtime.node.pods.resolve(required(request.pod_sandbox_id, "pod_sandbox_id"));
  const [stats] = await podStats(runtime, [pod]);
  return { stats: stats ?? null };
}
