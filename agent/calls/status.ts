import type { runtime as proto } from "../../cri-proto/generated/runtime.js";
import type { SandboxNode } from "../../sandbox/node.js";
import { ownHandlers } from "../../sandbox/oci-runtimes.js";
import { supportsUserNamespaces } from "../../sandbox/user-namespaces.js";
import type { Condition } from "../doctor.js";
import type { Runtime } from "../runtime.js";

/** Conditions are what the doctor finds now, so that a remedy shows at once. */
export async function status(runtime: Runtime, request: proto.v1.StatusRequest): Promise<proto.v1.IStatusResponse> {
  const { node, config } = runtime;
  const findings = await runtime.examine();
  const condition = (type: Condition): proto.v1.IRuntimeCondition => {
    const broken = findings.find((finding) => finding.breaks === type);
    return broken === undefined
      ? { type, status: true, reason: "", message: "" }
      : { type, status: false, reason: broken.id, message: `${broken.what}: ${broken.consequence}. ${broken.remedy}` };
  };
  const features = {
    recursive_read_only_mounts: node.features.mountSetattr,
    user_namespaces: supportsUserNamespaces(node.features),
  };
  const answer: proto.v1.IStatusResponse = {
    status: { conditions: [condition("RuntimeReady"), condition("NetworkReady")] },
    runtime_handlers: [...ownHandlers.map((name) => ({ name, features })), ...foreignHandlers(node)],
    features: { supplemental_groups_policy: true, user_namespaces_host_network: false, mount_options: true },
  };
  if (request.verbose) {
    const { capabilities, ...kernel } = node.features;
    answer.info = {
      info: JSON.stringify({
        config,
        kernel: { ...kernel, capabilities: `0x${capabilities.toString(16)}` },
        cgroup: { mode: node.cgroups.mode, missingControllers: node.cgroups.missingControllers },
        network: node.network.describe(),
        findings,
      }),
    };
  }
  return answer;
}

/** The OCI runtimes that can be used. Pods of theirs have no user namespaces, whatever they could do themselves. */
function foreignHandlers({ runtimes }: SandboxNode): proto.v1.IRuntimeHandler[] {
  return [...runtimes.values()]
    .filter(({ problem }) => problem === "")
    .map(({ name, recursiveReadonlyMounts }) => ({
      name,
      features: { recursive_read_only_mounts: recursiveReadonlyMounts, user_namespaces: false },
    }));
}
