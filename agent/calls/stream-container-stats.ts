import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { inPieces } from "../pieces.js";
import type { Runtime } from "../runtime.js";
import { listContainerStats } from "./list-container-stats.js";

/** ListContainerStats in pieces: of one pass, and not of a pass a piece. */
export async function* streamContainerStats(
  runtime: Runtime,
  request: proto.v1.StreamContainerStatsRequest,
): AsyncGenerator<proto.v1.IStreamContainerStatsResponse> {
  const { stats } = await listContainerStats(runtime, request);
  for (const piece of inPieces(stats ?? [], proto.v1.ContainerStats)) yield { container_stats: piece };
}
