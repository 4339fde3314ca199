import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { checkReady } from "../../sandbox/connect-to-pod.js";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";
import { servePortForward } from "../streaming/port-forward.js";
import type { Agreed } from "../streaming/upgrade.js";

/** Of one request; each takes two of a WebSocket's 256 channels. */
const mostPorts = 127;

export function portForward(
  { node, streams }: Runtime,
  request: proto.v1.PortForwardRequest,
): proto.v1.IPortForwardResponse {
  const pod = node.pods.resolve(required(request.pod_sandbox_id, "pod_sandbox_id"));
  const { port: ports } = request;
  for (const port of ports) {
    if (port < 1 || port > 65535) throw new InvalidArgumentError(`port: ${port} is no port`);
  }
  if (ports.length > mostPorts) throw new InvalidArgumentError(`port: more than ${mostPorts} at once`);
  checkReady(pod);
  const forward = (agreed: Agreed) => servePortForward(pod, ports, agreed, node.observer);
  return { url: streams.issue({ method: "portforward", forward }) };
}
