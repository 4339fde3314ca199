import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { podMetrics } from "../pod-metrics.js";
import type { Runtime } from "../runtime.js";

export async function listPodSandboxMetrics(
  runtime: Runtime,
  _request: proto.v1.IListPodSandboxMetricsRequest,
): Promise<proto.v1.IListPodSandboxMetricsResponse> {
  return { pod_metrics: await podMetrics(runtime) };
}
