import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { containerStats } from "../container-stats.js";
import { matchesContainer } from "../filters.js";
import type { Runtime } from "../runtime.js";

/** Of the containers that have not ended: the others use nothing any more. */
export async function listContainerStats(
  runtime: Runtime,
  request: proto.v1.ListContainerStatsRequest,
): Promise<proto.v1.IListContainerStatsResponse> {
  const containers = runtime.node.containers
    .list()
    .filter((container) => container.record.phase !== "exited" && matchesContainer(container, request.filter));
  return { stats: await containerStats(runtime, containers) };
}
