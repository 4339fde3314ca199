import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { inPieces } from "../pieces.js";
import type { Runtime } from "../runtime.js";
import { listedContainers } from "./list-containers.js";

/** ListContainers in pieces. */
export async function* streamContainers(
  runtime: Runtime,
  request: proto.v1.StreamContainersRequest,
): AsyncGenerator<proto.v1.IStreamContainersResponse> {
  const containers = listedContainers(runtime, request.filter);
  for (const piece of inPieces(containers, proto.v1.Container)) yield { containers: piece };
}
