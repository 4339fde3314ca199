import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { checkAttachable } from "../../sandbox/attach-to-container.js";
import { checkStreams, required } from "../requests.js";
import type { Runtime } from "../runtime.js";
import { serveAttach } from "../streaming/attach.js";

export function attach({ node, streams }: Runtime, request: proto.v1.AttachRequest): proto.v1.IAttachResponse {
  const container = node.containers.resolve(required(request.container_id, "container_id"));
  const { tty, stdin, stdout, stderr } = request;
  const wanted = { tty, stdin, stdout, stderr };
  checkStreams(wanted);
  // whether there is a terminal is the container's business: "kubectl attach" asks for none where there is one
  checkAttachable(container);
  const url = streams.issue({
    method: "attach",
    streams: wanted,
    serve: (client) => serveAttach(node, container, wanted, client),
  });
  return { url };
}
