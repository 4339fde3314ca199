import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { listedContainer } from "../container-status.js";
import { matchesContainer } from "../filters.js";
import type { Runtime } from "../runtime.js";
import { withinList } from "../texts.js";

export function listContainers(
  runtime: Runtime,
  request: proto.v1.ListContainersRequest,
): proto.v1.IListContainersResponse {
  return { containers: withinList(listedContainers(runtime, request.filter), runtime.node.observer) };
}

/** With all of their annotations. */
export function listedContainers(
  { node, images }: Runtime,
  filter: proto.v1.IContainerFilter | null | undefined,
): proto.v1.IContainer[] {
  const containers = node.containers.list().filter((container) => matchesContainer(container, filter));
  return containers.map((container) => listedContainer(container, images));
}
