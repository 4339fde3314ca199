import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import type { Pod } from "../../sandbox/pod.js";
import { encodedAnswer, KnownPieces } from "../encoded-answer.js";
import { matchesPod } from "../filters.js";
import type { Runtime } from "../runtime.js";
import { podState, toInt64 } from "../states.js";
import { fitIntoList, shortenedForList } from "../texts.js";

/** By their configurations, which stay as they are. */
const known = new KnownPieces<Pod["config"]>();

export function listPodSandbox(
  runtime: Runtime,
  request: proto.v1.ListPodSandboxRequest,
): proto.v1.IListPodSandboxResponse {
  const pods = matchingPods(runtime, request.filter);
  if (!fitIntoList(pods)) return { items: shortenedForList(pods.map(listed), runtime.node.observer) };
  return encodedAnswer(pods.map(encoded));
}

/** With all of their annotations. */
export function listedPods(
  runtime: Runtime,
  filter: proto.v1.IPodSandboxFilter | null | undefined,
): proto.v1.IPodSandbox[] {
  return matchingPods(runtime, filter).map(listed);
}

function matchingPods({ node }: Runtime, filter: proto.v1.IPodSandboxFilter | null | undefined): Pod[] {
  return node.pods.list().filter((pod) => matchesPod(pod, filter));
}

function encoded(pod: Pod): Uint8Array {
  return known.of(pod.config, String(podState(pod)), () =>
    proto.v1.ListPodSandboxResponse.encode({ items: [listed(pod)] }).finish(),
  );
}

function listed(pod: Pod): proto.v1.IPodSandbox {
  return {
    id: pod.record.id,
    metadata: pod.config.metadata ?? null,
    state: podState(pod),
    created_at: toInt64(pod.record.createdAt),
    labels: pod.config.labels ?? {},
    annotations: pod.config.annotations ?? {},
    runtime_handler: pod.record.runtimeHandler,
  };
}
