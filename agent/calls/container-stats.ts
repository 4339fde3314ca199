import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { containerStats as statsOf } from "../container-stats.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

export async function containerStats(
  runtime: Runtime,
  request: proto.v1.ContainerStatsRequest,
): Promise<proto.v1.IContainerStatsResponse> {
  const container = runtime.node.containers.resolve(required(request.container_id, "container_id"));
  const [stats] = await statsOf(runtime, [container]);
  return { stats: stats ?? null };
}
