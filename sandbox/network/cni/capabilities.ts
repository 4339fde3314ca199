/** What plugins are told of a pod: CNI_ARGS, and the capabilities that they declare (CNI's conventions, "Dynamic Plugin specific Fields"). */
import { InvalidArgumentError } from "../../errors.js";
import type { NetworkedPod, PortMapping } from "../provider.js";
import type { Json } from "./result.js";

/** As the kubelet's own network code has always passed them; plugins that know none of them must not mind. */
export function argsOf(podId: string, { name, namespace, uid }: NetworkedPod): [name: string, value: string][] {
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
  const bandwidth = bandwidthOf(pod.annotations);
  const { servers, searches, options } = pod.dns;
  const hasDns = servers.length + searches.length + options.length > 0;
  return {
    ...(portMappings.length > 0 && { portMappings: portMappings.map(toCni) }),
    ...(bandwidth !== undefined && { bandwidth }),
    ...(hasDns && { dns: { servers, searches, options } }),
    ...(pod.cgroupPath !== "" && { cgroupPath: pod.cgroupPath }),
    "io.kubernetes.cri.pod-annotations": pod.annotations,
  };
}

function toCni({ hostPort, containerPort, protocol, hostIp }: PortMapping): Json {
  return { hostPort, containerPort, protocol, hostIP: hostIp };
}

/** Bits a second; the burst is as large as the plugin's counters are. */
function bandwidthOf(annotations: Readonly<Record<string, string>>): Json | undefined {
  const ingress = rate(annotations, "kubernetes.io/ingress-bandwidth");
  const egress = rate(annotations, "kubernetes.io/egress-bandwidth");
  if (ingress === undefined && egress === undefined) return undefined;
  const burst = 2 ** 31 - 1;
  return {
    ...(ingress !== undefined && { ingressRate: ingress, ingressBurst: burst }),
    ...(egress !== undefined && { egressRate: egress, egressBurst: burst }),
  };
}

const units: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** A quantity as Kubernetes writes them; 1k to 1P, as the kubelet has it. */
function rate(annotations: Readonly<Record<string, string>>, name: string): number | undefined {
  const text = annotations[name];
  if (text === undefined) return undefined;
  const match = /^(\d+(?:\.\d+)?)([kMGTP]i?|Ki|)$/.exec(text);
  const value = match === null ? Number.NaN : Number(match[1]) * (units[match[2] ?? ""] ?? Number.NaN);
  if (!(value >= 1e3 && value <= 1e15)) {
    throw new InvalidArgumentError(
      `config.annotations["${name}"]: ${JSON.stringify(text)} is no rate between 1k and 1P bits a second`,
    );
  }
  return Math.round(value);
}
