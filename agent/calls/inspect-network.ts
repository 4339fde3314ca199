import Long from "long";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { native } from "../../native/binding.js";
import { FailedPreconditionError } from "../../sandbox/errors.js";
import { type InspectedInterface, inspectNamespace } from "../../sandbox/network/inspect.js";
import { required } from "../requests.js";
import type { Runtime } from "../runtime.js";

/** `berth network inspect`. */
export async function inspectNetwork(
  { node }: Runtime,
  request: proto.v1.InspectNetworkRequest,
): Promise<proto.v1.IInspectNetworkResponse> {
  const pod = node.pods.resolve(required(request.pod_sandbox_id, "pod_sandbox_id"));
  const { id, network, netnsPath, phase } = pod.record;
  if (network === null || phase !== "ready") {
    throw new FailedPreconditionError(
      netnsPath === "" ? `pod sandbox ${id} has the host's network` : `pod sandbox ${id} has no network any more`,
    );
  }
  const namespaceFd = native.openPath(netnsPath);
  try {
    const [found, { rules, drops }] = await Promise.all([
      inspectNamespace(native, { namespaceFd, processId: pod.monitorPid }),
      node.network.podRules(network),
    ]);
    return {
      pod_sandbox_id: id,
      provider: network.provider,
      netns_path: netnsPath,
      interfaces: found.interfaces.map(toMessage),
      routes: found.routes.map(({ destination, gateway, interface: name }) => ({
        destination,
        gateway,
        interface: name,
      })),
      rules,
      drops: [...found.drops, ...drops]
        .filter(({ packets }) => packets > 0)
        .map(({ where, packets }) => ({ where, packets: Long.fromNumber(packets) })),
    };
  } finally {
    native.closeDescriptor(namespaceFd);
  }
}

function toMessage(link: InspectedInterface): proto.v1.INetworkInterface {
  const { side, name, mac, mtu, up, addresses, bridge } = link;
  return {
    ...{ side, name, mac, mtu, up, addresses, bridge },
    rx_bytes: Long.fromNumber(link.rxBytes),
    rx_packets: Long.fromNumber(link.rxPackets),
    tx_bytes: Long.fromNumber(link.txBytes),
    tx_packets: Long.fromNumber(link.txPackets),
  };
}
