import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { execInContainer } from "../../sandbox/exec-in-container.js";
import { required, secondsToMs } from "../requests.js";
import type { Runtime } from "../runtime.js";
import { messageLimitBytes } from "../services.js";

/** Both streams together must fit the answer, beside the exit code and the fields' own lengths. */
const outputLimitBytes = messageLimitBytes - 4096;

export async function execSync(
  { node }: Runtime,
  request: proto.v1.ExecSyncRequest,
  signal: AbortSignal,
  requestId: string,
): Promise<proto.v1.IExecSyncResponse> {
  const timeoutMs = secondsToMs(request.timeout, "timeout");
  const container = node.containers.resolve(required(request.container_id, "container_id"));
  const command = request.cmd;
  if (command.length === 0 || command[0] === "") throw new InvalidArgumentError("cmd is missing");
  const done = await execInContainer(node, container, { command, timeoutMs, outputLimitBytes, requestId }, signal);
  return { stdout: done.stdout, stderr: done.stderr, exit_code: done.exitCode };
}
