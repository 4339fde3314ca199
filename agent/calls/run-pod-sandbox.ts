import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { startPod } from "../../sandbox/start-pod.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";
import { runtimeHandlers } from "../version.js";

export async function runPodSandbox(
  { node }: Runtime,
  request: proto.v1.RunPodSandboxRequest,
  signal: AbortSignal,
): Promise<proto.v1.IRunPodSandboxResponse> {
  const config = required(request.config, "config");
  const metadata = required(config.metadata, "config.metadata");
  required(metadata.name, "config.metadata.name");
  required(metadata.namespace, "config.metadata.namespace");
  if (!runtimeHandlers.includes(request.runtime_handler)) {
    throw new InvalidArgumentError(
      `runtime_handler: "${request.runtime_handler}" is not known; there are "" and "berth", which are the same`,
    );
  }
  const pod = await startPod(node, config, request.runtime_handler, signal);
  return { pod_sandbox_id: pod.record.id };
}
