import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { inPieces } from "../pieces.js";
import type { Runtime } from "../runtime.js";
import { listPodSandboxStats } from "./list-pod-sandbox-stats.js";

/** ListPodSandboxStats in pieces: of one pass, and not of a pass a piece. */
export async function* streamPodSandboxStats(
  runtime: Runtime,
  request: proto.v1.StreamPodSandboxStatsRequest,
): AsyncGenerator<proto.v1.IStreamPodSandboxStatsResponse> {
  const { stats } = await listPodSandboxStats(runtime, request);
  for (const piece of inPieces(stats ?? [], proto.v1.PodSandboxStats)) yield { pod_sandbox_stats: piece };
}
