import { type runtime as proto, runtime } from "../../cri-proto/generated/runtime.js";
import { UnimplementedError } from "../../sandbox/errors.js";
import { checkRuntimeHandler, ownHandlers } from "../../sandbox/oci-runtimes.js";
import { startPod } from "../../sandbox/start-pod.js";
import { refreshRuntimes } from "../oci-runtimes.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";
import { checkTexts } from "../texts.js";

const { NamespaceMode } = runtime.v1;

export async function runPodSandbox(
  { node }: Runtime,
  request: proto.v1.RunPodSandboxRequest,
  signal: AbortSignal,
): Promise<proto.v1.IRunPodSandboxResponse> {
  const config = required(request.config, "config");
  const metadata = required(config.metadata, "config.metadata");
  required(metadata.name, "config.metadata.name");
  required(metadata.namespace, "config.metadata.namespace");
  checkTexts(config);
  if (!ownHandlers.includes(request.runtime_handler)) await refreshRuntimes(node);
  checkRuntimeHandler(node, request.runtime_handler);
  const users = config.linux?.security_context?.namespace_options?.userns_options;
  if (users && users.mode !== NamespaceMode.NODE && !ownHandlers.includes(request.runtime_handler)) {
    throw new UnimplementedError(
      `config.linux.security_context.namespace_options.userns_options: pods of the runtime handler "${request.runtime_handler}" have no user namespaces; those of Berth's own launcher have`,
    );
  }
  const pod = await startPod(node, config, request.runtime_handler, signal);
  return { pod_sandbox_id: pod.record.id };
}
