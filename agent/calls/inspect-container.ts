import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { FailedPreconditionError } from "../../sandbox/errors.js";
import { completeSpec } from "../../sandbox/seccomp-filters.js";
import { specToJson } from "../../sandbox/spec/bundle-spec.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** `berth inspect --spec`. */
export function inspectContainer(
  { node }: Runtime,
  request: proto.v1.InspectContainerRequest,
): proto.v1.IInspectContainerResponse {
  const { id, spec } = node.containers.resolve(required(request.container_id, "container_id")).record;
  if (spec === null) throw new FailedPreconditionError(`container ${id} has no spec yet`);
  return { spec: specToJson(completeSpec(spec)) };
}
