import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { ResourceExhaustedError } from "../../sandbox/errors.js";
import { encodedAnswer } from "../encoded-answer.js";
import { podMetrics } from "../pod-metrics.js";
import type { Runtime } from "../runtime.js";
import { messageLimitBytes } from "../services.js";

/** Some 12 KiB a container. They are encoded one pod after the other, so that other calls are answered meanwhile. */
export async function listPodSandboxMetrics(
  runtime: Runtime,
  _request: proto.v1.IListPodSandboxMetricsRequest,
): Promise<proto.v1.IListPodSandboxMetricsResponse> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const pod of podMetrics(runtime)) {
    const piece = proto.v1.ListPodSandboxMetricsResponse.encode({ pod_metrics: [pod] }).finish();
    bytes += piece.length;
    if (bytes > messageLimitBytes) {
      throw new ResourceExhaustedError(
        `the metrics of all pods have more than the ${messageLimitBytes} bytes that clients take in one answer; StreamPodSandboxMetrics tells them in pieces`,
      );
    }
    pieces.push(piece);
  }
  return encodedAnswer(pieces);
}
