import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { inPieces } from "../pieces.js";
import type { Runtime } from "../runtime.js";
import { listedPods } from "./list-pod-sandbox.js";

/** ListPodSandbox in pieces. */
export async function* streamPodSandboxes(
  runtime: Runtime,
  request: proto.v1.StreamPodSandboxesRequest,
): AsyncGenerator<proto.v1.IStreamPodSandboxesResponse> {
  for (const piece of inPieces(listedPods(runtime, request.filter), proto.v1.PodSandbox))
    yield { pod_sandboxes: piece };
}
