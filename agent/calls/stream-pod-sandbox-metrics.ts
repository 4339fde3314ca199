import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { inPieces } from "../pieces.js";
import { podMetrics } from "../pod-metrics.js";
import type { Runtime } from "../runtime.js";

/** ListPodSandboxMetrics in pieces: of one pass, and not of a pass a piece. */
export async function* streamPodSandboxMetrics(
  runtime: Runtime,
  _request: proto.v1.IStreamPodSandboxMetricsRequest,
): AsyncGenerator<proto.v1.IStreamPodSandboxMetricsResponse> {
  const metrics: proto.v1.IPodSandboxMetrics[] = [];
  for await (const pod of podMetrics(runtime)) metrics.push(pod);
  for (const piece of inPieces(metrics, proto.v1.PodSandboxMetrics)) yield { pod_sandbox_metrics: piece };
}
