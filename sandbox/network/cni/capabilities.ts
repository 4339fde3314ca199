/** What plugins are told of a pod: CNI_ARGS, and the capabilities that they declare (CNI's conventions, "Dynamic Plugin specific Fields"). */
import { InvalidArgumentError } from "../../errors.js";
import { bandwidthOf } from "../bandwidth.js";
import { isWide } from "../host-ports.js";
import type { NetworkedPod, PortMapping } from "../provider.js";
import type { Json } from "./result.js";

/**
 * As the kubelet's own network code has always passed them; plugins that know none of them must not mind.
 * InvalidArgumentError: a name would be read as further arguments.
 */
export function argsOf(podId: string, { name, namespace, uid }: NetworkedPod): [name: string, value: string][] {
  for (const [field, value] of Object.entries({ name, namespace, uid })) {
    if (!/[;=\0]/.test(value)) continue;
    throw new InvalidArgumentError(
      `config.metadata.${field} is ${JSON.stringify(value)}: what is told to CNI plugins (CNI_ARGS) can have no ";" and no "="`,
    );
  }
  return [
    ["IgnoreUnknown", "1"],
    ["K8S_POD_NAMESPACE", namespace],
    ["K8S_POD_NAME", name],
    ["K8S_POD_INFRA_CONTAINER_ID", podId],
    ["K8S_POD_UID", uid],
  ];
}

/** InvalidArgumentError names the annotation that is malformed. */
export function capabilityArgsOf(pod: NetworkedPod, portMappings: readonly PortMapping[]): Json {
  const bandwidth = cniBandwidth(pod.annotations);
  const { servers, searches, options } = pod.dns;
  const hasDns = servers.length + searches.length + options.length > 0;
  return {
    ...(portMappings.length > 0 && { portMappings: narrowFirst(portMappings).map(toCni) }),
    ...(bandwidth !== undefined && { bandwidth }),
    ...(hasDns && { dns: { servers, searches, options } }),
    ...(pod.cgroupPath !== "" && { cgroupPath: pod.cgroupPath }),
    "io.kubernetes.cri.pod-annotations": pod.annotations,
  };
}

/** Plugins write their rules in this order, and the first that fits leads. */
function narrowFirst(mappings: readonly PortMapping[]): PortMapping[] {
  return [...mappings.filter((mapping) => !isWide(mapping)), ...mappings.filter(isWide)];
}

function toCni({ hostPort, containerPort, protocol, hostIp }: PortMapping): Json {
  return { hostPort, containerPort, protocol, hostIP: hostIp };
}

/** Bits a second; the burst is as large as the plugin's counters are. */
function cniBandwidth(annotations: Readonly<Record<string, string>>): Json | undefined {
  const { ingress, egress } = bandwidthOf(annotations) ?? {};
  if (ingress === undefined && egress === undefined) return undefined;
  const burst = 2 ** 31 - 1;
  return {
    ...(ingress !== undefined && { ingressRate: ingress, ingressBurst: burst }),
    ...(egress !== undefined && { egressRate: egress, egressBurst: burst }),
  };
}
