import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { listedContainer } from "../container-status.js";
import { matchesContainer } from "../filters.js";
import type { Runtime } from "../runtime.js";

export function listContainers(
  { node, images }: Runtime,
  request: proto.v1.ListContainersRequest,
): proto.v1.IListContainersResponse {
  const containers = node.containers.list().filter((container) => matchesContainer(container, request.filter));
  return { containers: containers.map((container) => listedContainer(container, images)) };
}
