import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import type { Container } from "../../sandbox/container.js";
import { imageSpec, listedContainer } from "../container-status.js";
import { encodedAnswer, KnownPieces } from "../encoded-answer.js";
import { matchesContainer } from "../filters.js";
import type { Images } from "../images/images.js";
import type { Runtime } from "../runtime.js";
import { containerState } from "../states.js";
import { fitIntoList, shortenedForList } from "../texts.js";

/** By their configurations, which stay as they are. */
const known = new KnownPieces<Container["config"]>();

export function listContainers(
  runtime: Runtime,
  request: proto.v1.ListContainersRequest,
): proto.v1.IListContainersResponse {
  const containers = matchingContainers(runtime, request.filter);
  if (!fitIntoList(containers)) {
    const listed = containers.map((container) => listedContainer(container, runtime.images));
    return { containers: shortenedForList(listed, runtime.node.observer) };
  }
  return encodedAnswer(containers.map((container) => encoded(container, runtime.images)));
}

/** With all of their annotations. */
export function listedContainers(
  runtime: Runtime,
  filter: proto.v1.IContainerFilter | null | undefined,
): proto.v1.IContainer[] {
  return matchingContainers(runtime, filter).map((container) => listedContainer(container, runtime.images));
}

function matchingContainers({ node }: Runtime, filter: proto.v1.IContainerFilter | null | undefined): Container[] {
  return node.containers.list().filter((container) => matchesContainer(container, filter));
}

function encoded(container: Container, images: Images): Uint8Array {
  // the name that its image has now
  const { image } = imageSpec(container, images);
  return known.of(container.config, `${containerState(container)} ${image}`, () =>
    proto.v1.ListContainersResponse.encode({ containers: [listedContainer(container, images)] }).finish(),
  );
}
