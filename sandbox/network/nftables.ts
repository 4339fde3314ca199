/**
 * The rules of the built-in network, as documents for libnftables. One table of our own per bridge; other programs'
 * tables are never touched. The rules are the same whether there is one pod or a thousand: what differs from pod to pod
 * are elements of maps and sets. Pure.
 *
 * A drop in another table's forward chain cannot be taken back from here (an accept ends our own chain only), so there
 * is no forward chain; `berth doctor` tells of a forward policy that drops.
 */
import type { Family } from "./cidr.js";
import { familyOf, type PortElement, type PublishedPorts, portElements } from "./port-elements.js";

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

export function tableName(bridge: string): string {
  return `berth_${bridge}`;
}

/**
 * The whole table in one transaction, in place of the one that may be there: whatever an older agent had in it, or another
 * program.
 */
export function tableDocument(bridge: string, subnets: readonly string[], ports: readonly PublishedPorts[]): string {
  const table = tableName(bridge);
  const object = { table: { family: "inet", name: table } };
  const commands: Json[] = [{ add: object }, { delete: object }, { add: object }];
  for (const set of sets) {
    commands.push({ add: { [set.map === undefined ? "set" : "map"]: { family: "inet", table, ...set } } });
  }
  for (const chain of chains) commands.push({ add: { chain: { family: "inet", table, ...chain } } });
  for (const [chain, ...rules] of rulesOf(bridge)) {
    for (const expr of rules) commands.push({ add: { rule: { family: "inet", table, chain, expr } } });
  }
  for (const family of families) {
    const elem = subnets.filter((subnet) => familyOf(subnet) === family).map(prefixOf);
    if (elem.length > 0) commands.push(element("add", table, `subnets${family}`, elem));
  }
  for (const published of ports) {
    for (const port of portElements(published)) commands.push(element("add", table, port.set, [toJson(port)]));
  }
  return JSON.stringify({ nftables: commands });
}

/** What listing the table answers, as far as it is asked for here. */
export interface ListedTable {
  nftables: {
    map?: { name: string; elem?: unknown[] };
    set?: { name: string; elem?: unknown[] };
    rule?: { chain: string; expr: { counter?: { packets: number } }[] };
  }[];
}

export function listTableDocument(bridge: string): string {
  return JSON.stringify({ nftables: [{ list: { table: { family: "inet", name: tableName(bridge) } } }] });
}

/** One port of a pod as its rule leads it. */
export interface PortRule {
  /** "tcp 127.0.0.1:8080 to 10.88.0.5:80" */
  rule: string;
  /** all that it needs stands in the table */
  installed: boolean;
}

export function portRules(ports: PublishedPorts, listed: ListedTable): PortRule[] {
  const standing = new Set(
    listed.nftables.flatMap(({ map, set }) => {
      const { name = "", elem = [] } = map ?? set ?? {};
      return elem.map((element) => `${name} ${JSON.stringify(element)}`);
    }),
  );
  return ports.addresses.flatMap((address) =>
    ports.portMappings
      .filter(({ hostIp }) => hostIp === "" || familyOf(hostIp) === familyOf(address))
      .map((mapping) => {
        const wanted = portElements({ addresses: [address], portMappings: [mapping] });
        const elements = wanted.map((port) => `${port.set} ${JSON.stringify(toJson(port))}`);
        const { protocol, hostIp, hostPort, containerPort } = mapping;
        return {
          rule: `${protocol} ${withPort(hostIp || "*", hostPort)} to ${withPort(address, containerPort)}`,
          installed: elements.every((element) => standing.has(element)),
        };
      }),
  );
}

function withPort(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Packets that the guard of route_localnet has dropped since the table was written: of all pods together. */
export function guardDrops(listed: ListedTable): number {
  return listed.nftables
    .flatMap(({ rule }) => (rule?.chain === "raw_prerouting" ? rule.expr : []))
    .reduce((sum, { counter }) => sum + (counter?.packets ?? 0), 0);
}

/** Not there is success. */
export function removeTableDocument(bridge: string): string {
  const table = { table: { family: "inet", name: tableName(bridge) } };
  return JSON.stringify({ nftables: [{ add: table }, { delete: table }] });
}

const families = [4, 6] as const satisfies Family[];
const addressType = { 4: "ipv4_addr", 6: "ipv6_addr" };
const protocolName = { 4: "ip", 6: "ip6" };

type SetDefinition = {
  name: string;
  type: Json;
  map?: string;
  flags?: string[];
  /** seconds */
  timeout?: number;
  "auto-merge"?: boolean;
};

// The target of a host port is two maps, one for the address and one for the port: a map whose data is a concatenation
// cannot be written in the JSON of libnftables 1.0.6. "any" is for mappings without a host address, "bound" for those
// with one. "hairpin" has the targets, "asking" the pods' connections to the node that began just now.
const sets: SetDefinition[] = families.flatMap((family) => {
  const address = addressType[family];
  return [
    { name: `subnets${family}`, type: address, flags: ["interval"], "auto-merge": true },
    { name: `any_address${family}`, type: ["inet_proto", "inet_service"], map: address },
    { name: `any_port${family}`, type: ["inet_proto", "inet_service"], map: "inet_service" },
    { name: `bound_address${family}`, type: [address, "inet_proto", "inet_service"], map: address },
    { name: `bound_port${family}`, type: [address, "inet_proto", "inet_service"], map: "inet_service" },
    { name: `hairpin${family}`, type: [address, "inet_proto", "inet_service"] },
    { name: `asking${family}`, type: [address, "inet_proto", "inet_service"], flags: ["timeout"], timeout: 10 },
  ];
});

// Numbers are nftables' own for raw (-300), dstnat (-100), filter (0) and srcnat (100).
const chains = [
  { name: "host_ports" },
  { name: "raw_prerouting", type: "filter", hook: "prerouting", prio: -300, policy: "accept" },
  { name: "prerouting", type: "nat", hook: "prerouting", prio: -100, policy: "accept" },
  { name: "output", type: "nat", hook: "output", prio: -100, policy: "accept" },
  { name: "filter_output", type: "filter", hook: "output", prio: 0, policy: "accept" },
  { name: "postrouting", type: "nat", hook: "postrouting", prio: 100, policy: "accept" },
];

const loopback4 = { prefix: { addr: "127.0.0.0", len: 8 } };
const l4proto = { meta: { key: "l4proto" } };

function rulesOf(bridge: string): [chain: string, ...rules: Json[][]][] {
  const from = equals(meta("iifname"), bridge);
  const to = equals(meta("oifname"), bridge);
  const toHost = [equals({ fib: { result: "type", flags: ["daddr"] } }, "local"), { jump: { target: "host_ports" } }];
  return [
    // The bridge has route_localnet, for host ports on 127.0.0.1. Nothing that comes in through it may use that.
    [
      "raw_prerouting",
      [from, equals(payload("ip", "daddr"), loopback4), { counter: null }, { drop: null }],
      [from, equals(payload("ip", "saddr"), loopback4), { counter: null }, { drop: null }],
    ],
    ["prerouting", toHost],
    ["output", toHost],
    // a pod that reaches another by a host port of ours must not learn a way around the translation
    [
      "filter_output",
      [to, equals(payload("icmp", "type"), "redirect"), { drop: null }],
      [to, equals(payload("icmpv6", "type"), "nd-redirect"), { drop: null }],
    ],
    ["host_ports", ...families.map((family) => [from, remember(family)]), ...families.flatMap(leadingRules)],
    [
      "postrouting",
      [to, equals(payload("ip", "saddr"), loopback4), { masquerade: null }],
      ...families.flatMap((family) => leavingRules(family, to, bridge)),
    ],
  ];
}

/** Who asks, as it is known after the destination was translated, too. */
function asker(family: Family): Json {
  return { concat: [payload(protocolName[family], "saddr"), l4proto, payload("th", "sport")] };
}

function remember(family: Family): Json {
  return { set: { op: "update", elem: asker(family), set: `@asking${family}` } };
}

function leadingRules(family: Family): Json[][] {
  const nfproto = equals(meta("nfproto"), family === 4 ? "ipv4" : "ipv6");
  const port = payload("th", "dport");
  const daddr = payload(protocolName[family], "daddr");
  const lead = (kind: string, key: Json): Json => ({
    dnat: {
      family: protocolName[family],
      addr: { map: { key, data: `@${kind}_address${family}` } },
      port: { map: { key, data: `@${kind}_port${family}` } },
    },
  });
  // a translated ::1 would be dropped by the kernel: such connections stay with the node's own programs
  const notLoopback = family === 6 ? [{ match: { op: "!=", left: daddr, right: "::1" } }] : [];
  return [
    [nfproto, lead("bound", { concat: [daddr, l4proto, port] })],
    [nfproto, ...notLoopback, lead("any", { concat: [l4proto, port] })],
  ];
}

function leavingRules(family: Family, toBridge: Json, bridge: string): Json[][] {
  const saddr = payload(protocolName[family], "saddr");
  const daddr = payload(protocolName[family], "daddr");
  const fromPods = equals(saddr, `@subnets${family}`);
  const multicast = family === 4 ? { addr: "224.0.0.0", len: 4 } : { addr: "ff00::", len: 8 };
  return [
    // From pod to pod by a host port of ours: the answer must come back through the node. Who came by a service asked for
    // another address than the node's, and is shown as who it is.
    [
      toBridge,
      fromPods,
      { match: { op: "in", left: { ct: { key: "status" } }, right: "dnat" } },
      equals(asker(family), `@asking${family}`),
      equals({ concat: [daddr, l4proto, payload("th", "dport")] }, `@hairpin${family}`),
      { masquerade: null },
    ],
    [
      fromPods,
      { match: { op: "!=", left: meta("oifname"), right: bridge } },
      { match: { op: "!=", left: daddr, right: { prefix: multicast } } },
      { masquerade: null },
    ],
  ];
}

function toJson({ key, value }: PortElement): Json {
  const concat = { concat: key };
  return value === undefined ? concat : [concat, value];
}

function element(verb: "add", table: string, name: string, elem: Json[]): Json {
  return { [verb]: { element: { family: "inet", table, name, elem } } };
}

function equals(left: Json, right: Json): Json {
  return { match: { op: "==", left, right } };
}

function payload(protocol: string, field: string): Json {
  return { payload: { protocol, field } };
}

function meta(key: string): Json {
  return { meta: { key } };
}

function prefixOf(subnet: string): Json {
  const [addr = "", len = ""] = subnet.split("/");
  return { prefix: { addr, len: Number(len) } };
}
