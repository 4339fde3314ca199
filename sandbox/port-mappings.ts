import { runtime } from "../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "./errors.js";
import type { PortMapping } from "./network/provider.js";
import type { PodSandboxConfig } from "./pod.js";

const protocols = ["tcp", "udp", "sctp"] as const;

/** The ports of the pod; without a port of the node it is 0. InvalidArgumentError names the mapping that is malformed. */
export function portMappings(config: PodSandboxConfig): PortMapping[] {
  const mappings: PortMapping[] = [];
  for (const [index, asked] of (config.port_mappings ?? []).entries()) {
    const field = `config.port_mappings[${index}]`;
    const protocol = protocols[asked.protocol ?? runtime.v1.Protocol.TCP];
    if (protocol === undefined) throw new InvalidArgumentError(`${field}.protocol: ${asked.protocol} is no protocol`);
    const hostPort = asked.host_port ?? 0;
    const containerPort = asked.container_port ?? 0;
    if (hostPort !== 0) {
      checkPort(`${field}.host_port`, hostPort);
      checkPort(`${field}.container_port`, containerPort);
    }
    mappings.push({ protocol, containerPort, hostPort, hostIp: asked.host_ip ?? "" });
  }
  return mappings;
}

function checkPort(field: string, port: number): void {
  if (port < 1 || port > 65535) throw new InvalidArgumentError(`${field}: ${port} is not a port (1 to 65535)`);
}
