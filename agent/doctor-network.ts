/** What the host has and lacks for the pod network; doctor.ts puts it together with the rest. */
import { messageOf } from "../sandbox/errors.js";
import { findOverlaps, formatRoute } from "../sandbox/network/host-routes.js";
import type { NetworkStatus } from "../sandbox/network/provider.js";
import type { Finding, Host } from "./doctor.js";

export async function builtinNetworkFindings(
  host: Host,
  proc: (path: string) => Promise<string | undefined>,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  if ((await proc("sys/net/ipv4/ip_forward")) === "0") {
    findings.push({
      id: "IpForwardOff",
      severity: "error",
      what: "net.ipv4.ip_forward is 0",
      consequence: "pods reach neither other nodes nor the world",
      remedy: "Run sysctl -w net.ipv4.ip_forward=1, or start the agent, which sets it.",
      breaks: "NetworkReady",
    });
  }
  const bridgeCalls = await proc("sys/net/bridge/bridge-nf-call-iptables");
  if (bridgeCalls !== "1") {
    findings.push({
      id: "BridgeNfCallOff",
      severity: "warning",
      what:
        bridgeCalls === undefined
          ? "net.bridge.bridge-nf-call-iptables is not there (br_netfilter is not loaded)"
          : `net.bridge.bridge-nf-call-iptables is ${bridgeCalls}`,
      consequence: "a pod that calls a service whose answer comes from a pod of the same node may get none",
      remedy: "Run modprobe br_netfilter and sysctl -w net.bridge.bridge-nf-call-iptables=1.",
    });
  }
  try {
    await host.probeNftables();
  } catch (error) {
    findings.push({
      id: "NftablesMissing",
      severity: "error",
      what: `nftables does not answer (${messageOf(error)})`,
      consequence: "pods reach nothing outside of the node, and host ports lead nowhere",
      remedy: "Run modprobe nf_tables, or use a kernel with CONFIG_NF_TABLES.",
      breaks: "NetworkReady",
    });
    return findings;
  }
  return [...findings, ...(await overlapFindings(host)), ...(await forwardFindings(host))];
}

async function overlapFindings({ subnets, bridge, listRoutes }: Host): Promise<Finding[]> {
  return findOverlaps(subnets, bridge, await listRoutes()).map(({ subnet, route, within }) => {
    const what = `the pod subnet ${subnet} overlaps the host's route ${formatRoute(route)}`;
    const remedy = "Choose another subnet (--subnet, or the node's pod CIDR), or remove the route.";
    return within
      ? {
          id: "SubnetOverlap",
          severity: "error",
          what,
          consequence: "either pods with those addresses or whom the route leads to cannot be reached",
          remedy,
          breaks: "NetworkReady",
        }
      : {
          id: "SubnetInsideRoute",
          severity: "warning",
          what,
          consequence: "what has those addresses on the other side of the route cannot be reached from this host",
          remedy,
        };
  });
}

async function forwardFindings({ bridge, forwardDrops }: Host): Promise<Finding[]> {
  return (await forwardDrops()).map((chain) => ({
    id: "ForwardDrop",
    severity: "warning",
    what: `the chain ${chain} drops what is forwarded, unless a rule of its own accepts it`,
    consequence: "pods may reach nothing outside of the node, and host ports may lead nowhere",
    remedy:
      `Accept there what comes in or goes out by ${bridge}. Docker: in the chain DOCKER-USER. ` +
      `firewalld: firewall-cmd --permanent --zone=trusted --add-interface=${bridge}; firewall-cmd --reload.`,
  }));
}

export function networkStatusFindings(status: NetworkStatus | undefined): Finding[] {
  if (status === undefined || status.ready) return [];
  return [
    {
      id: status.reason,
      severity: "error",
      what: status.message,
      consequence: "pods with a network of their own cannot start",
      remedy: "It is tried again with each pod.",
      breaks: "NetworkReady",
    },
  ];
}
