/** What a pod's network is at this moment, from the kernel: both ends, addresses, routes, and where packets are dropped. */
import { readFileSync } from "node:fs";
import type { Addon, Link, Queue, Route } from "../../native/binding.js";

export interface InspectedInterface extends Link {
  /** "host": the other end of one in the pod */
  side: "pod" | "host";
  /** CIDRs */
  addresses: string[];
  /** of the host's end: the bridge that it is a port of; empty: none */
  bridge: string;
}

export interface Inspection {
  /** each of the pod's is followed by its end on the host, where it has one */
  interfaces: InspectedInterface[];
  /** the pod's main table */
  routes: Route[];
  /** those that are not zero */
  drops: { where: string; packets: number }[];
}

const mainTable = 254;

/** `processId`: some process in the namespace; 0: none. */
export async function inspectNamespace(
  addon: Pick<Addon, "listLinks" | "listAddresses" | "listRoutes" | "listQueues">,
  { namespaceFd, processId }: { namespaceFd: number; processId: number },
): Promise<Inspection> {
  const [pod, addresses, routes, podQueues, host, hostQueues] = await Promise.all([
    addon.listLinks({ namespaceFd }),
    addon.listAddresses({ namespaceFd }),
    addon.listRoutes({ namespaceFd }),
    addon.listQueues({ namespaceFd }),
    addon.listLinks({}),
    addon.listQueues({}),
  ]);
  const interfaces = pod.flatMap((link): InspectedInterface[] => {
    const own = addresses.filter(({ name }) => name === link.name).map(({ address }) => address);
    const inside: InspectedInterface = { ...link, side: "pod", addresses: own, bridge: "" };
    const other = host.find(({ index, peer }) => link.peer !== 0 && index === link.peer && peer === link.index);
    if (other === undefined) return [inside];
    const bridge = host.find(({ index }) => index === other.master)?.name ?? "";
    return [inside, { ...other, side: "host", addresses: [], bridge }];
  });
  const drops = [
    ...interfaces.flatMap((link) => interfaceDrops(link, link.side === "pod" ? podQueues : hostQueues)),
    ...protocolDrops(processId),
  ];
  return {
    interfaces,
    routes: routes.filter(({ table }) => table === mainTable),
    drops: drops.filter(({ packets }) => packets > 0),
  };
}

function interfaceDrops(link: InspectedInterface, queues: readonly Queue[]): Inspection["drops"] {
  const where = `${link.side}, ${link.name}`;
  return [
    { where: `${where}: coming in`, packets: link.rxDropped },
    { where: `${where}: coming in, with errors`, packets: link.rxErrors },
    { where: `${where}: going out`, packets: link.txDropped },
    { where: `${where}: going out, with errors`, packets: link.txErrors },
    ...queues
      .filter((queue) => queue.interface === link.index)
      .map(({ kind, dropped }) => ({ where: `${where}: in its queue (${kind})`, packets: dropped })),
  ];
}

/** Counters of the namespace that mean a packet was thrown away, in the kernel's own words. */
const discards: Readonly<Record<string, readonly string[]>> = {
  Ip: ["InHdrErrors", "InAddrErrors", "InDiscards", "OutDiscards", "OutNoRoutes"],
  Udp: ["NoPorts", "InErrors", "RcvbufErrors", "SndbufErrors"],
  TcpExt: ["ListenOverflows", "ListenDrops", "TCPBacklogDrop", "TCPRcvQDrop"],
};

function protocolDrops(processId: number): Inspection["drops"] {
  const counters = ["snmp", "netstat"].flatMap((file) => readCounters(`/proc/${processId}/net/${file}`));
  return counters
    .filter(({ protocol, name }) => discards[protocol]?.includes(name))
    .map(({ protocol, name, value }) => ({ where: `pod, ${protocol} ${name}`, packets: value }));
}

/** Two lines a protocol: its counters' names, and their values. Nothing when the process has ended. */
function readCounters(path: string): { protocol: string; name: string; value: number }[] {
  let lines: string[];
  try {
    lines = readFileSync(path, "utf8").split("\n");
  } catch {
    return [];
  }
  const counters = [];
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [head = "", ...names] = (lines[i] ?? "").split(" ");
    const values = (lines[i + 1] ?? "").split(" ").slice(1);
    for (const [column, name] of names.entries()) {
      counters.push({ protocol: head.replace(":", ""), name, value: Number(values[column] ?? 0) });
    }
  }
  return counters;
}
