import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { specOfRunning } from "../../sandbox/exec-in-container.js";
import { currentRequestId } from "../../sandbox/request-id.js";
import { checkStreams, required } from "../requests.js";
import type { Runtime } from "../runtime.js";
import { serveExec } from "../streaming/exec.js";

export function exec({ node, streams }: Runtime, request: proto.v1.ExecRequest): proto.v1.IExecResponse {
  const container = node.containers.resolve(required(request.container_id, "container_id"));
  const { cmd: command, tty, stdin, stdout, stderr } = request;
  if (command.length === 0 || command[0] === "") throw new InvalidArgumentError("cmd is missing");
  const wanted = { tty, stdin, stdout, stderr };
  checkStreams(wanted);
  specOfRunning(container);
  const requestId = currentRequestId();
  const url = streams.issue({
    method: "exec",
    streams: wanted,
    serve: (client) => serveExec(node, container, { command, ...wanted, requestId }, client),
  });
  return { url };
}
