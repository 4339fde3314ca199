/**
 * The built-in pod network: one bridge, a veth pair per pod, addresses from our own leases, and one nftables table for
 * what leaves the node and for host ports. All of it by netlink and libnftables in this process.
 */
import { type Addon, isSystemError } from "../../native/binding.js";
import { FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError, UnavailableError } from "../errors.js";
import type { Known, Leak } from "../leaks/leak.js";
import type { Observer } from "../observer.js";
import { bandwidthOf } from "./bandwidth.js";
import { formatSubnet, parseAddress, parseCidr } from "./cidr.js";
import { Departures } from "./departures.js";
import { checkHostAddresses } from "./host-addresses.js";
import { checkPortMappings, HostPorts } from "./host-ports.js";
import { ifbOf, vethOf } from "./interface-names.js";
import { readKept, writeKept } from "./kept-file.js";
import {
  guardDrops,
  type ListedTable,
  listTableDocument,
  portRules,
  removeTableDocument,
  tableName,
} from "./nftables.js";
import { NodeSide } from "./node-side.js";
import type { PublishedPorts } from "./port-elements.js";
import { PortTable } from "./port-table.js";
import type {
  NetworkedPod,
  NetworkLease,
  NetworkProvider,
  NetworkStatus,
  PendingRemoval,
  PodRules,
  PortMapping,
} from "./provider.js";
import { Reattachment } from "./reattachment.js";
import { Subnets, withoutPrefix } from "./subnets.js";

export type NetworkAddon = Pick<
  Addon,
  | "ensureBridge"
  | "removeOlderAddresses"
  | "attachVeth"
  | "joinBridge"
  | "shapeLink"
  | "deleteLink"
  | "linkIndex"
  | "listAddresses"
  | "listRoutes"
  | "runNftables"
  | "changeSetElements"
  | "forgetUdpFlows"
  | "watchNetwork"
  | "lockFile"
  | "closeDescriptor"
  | "openPath"
>;

/** Ports that the kernel gives a bridge: BR_MAX_PORTS, of which none has the number 0. */
const mostPorts = 1023;

export interface BuiltinNetworkOptions {
  addon: NetworkAddon;
  bridge: string;
  /** the agent's directory for what runs: pods below it are its own */
  run: string;
  /** where a pod's network namespace is pinned */
  namespaceOf: (podId: string) => string;
  /** one per family: the first one is the primary */
  subnets: readonly string[];
  /** where the kubelet's pod CIDRs are kept over restarts; they win over `subnets` */
  cidrPath: string;
  /** where it is kept which addresses were given last */
  positionsPath: string;
  observer: Observer;
}

/** A bridge that is deleted again and again keeps an attachment so often. */
const mostTries = 5;
/** How long a pod that comes waits for the port of one that goes. */
const portPatienceMs = 5_000;
/** Status may be asked often. */
const retryMs = 1_000;

export class BuiltinNetwork implements NetworkProvider {
  readonly name = "builtin";
  readonly #addon: NetworkAddon;
  readonly #bridge: string;
  readonly #cidrPath: string;
  readonly #positionsPath: string;
  #keepingPositions: NodeJS.Timeout | undefined;
  readonly #observer: Observer;
  readonly #subnets: Subnets;
  readonly #hostPorts = new HostPorts();
  readonly #table: PortTable;
  /** the host's ends of pods that are attached, or may be */
  readonly #interfaces = new Map<string, string>();
  readonly #departures: Departures;
  readonly #reattachment: Reattachment;
  readonly #node: NodeSide;
  #triedAt = Number.NEGATIVE_INFINITY;
  /** what an earlier agent has left was taken away */
  #isTidy = false;

  /** InvalidArgumentError: a malformed subnet, or two of one family. */
  constructor(options: BuiltinNetworkOptions) {
    this.#addon = options.addon;
    this.#bridge = options.bridge;
    this.#cidrPath = options.cidrPath;
    this.#positionsPath = options.positionsPath;
    this.#observer = options.observer;
    this.#table = new PortTable({
      addon: options.addon,
      bridge: options.bridge,
      isOurs: () => this.#node.isHeld,
      subnets: () => this.#subnets.all(),
      onTrouble: (error) =>
        this.#observer.emit({ type: "trouble", what: "have UDP flows forgotten", subject: options.bridge, error }),
    });
    this.#departures = new Departures(options.addon, (name, error) =>
      this.#observer.emit({ type: "trouble", what: "take a pod's interface away", subject: name, error }),
    );
    this.#reattachment = new Reattachment({
      ...options,
      attach: async (lease, namespaceFd) => {
        await this.#attachVeth(lease, namespaceFd);
        await this.#limitBandwidth(lease);
      },
      deleteInterfaces: (lease) => this.#deleteInterfaces(lease),
    });
    this.#subnets = new Subnets(options.subnets);
    this.#node = new NodeSide({
      ...options,
      subnets: this.#subnets,
      table: this.#table,
      interfaces: () => [...this.#interfaces.values()],
      onLinkGone: (name) => {
        if (name === undefined) void this.#departures.look();
        else this.#departures.gone(name);
        this.#reattachment.gone(name);
      },
    });
  }

  async start(): Promise<void> {
    const cidr = readKept(this.#cidrPath);
    if (cidr !== "") this.#subnets.change(splitCidrs(cidr));
    this.#subnets.continueFrom(readPositions(this.#positionsPath));
    await this.#setUp();
  }

  /**
   * Does not notice any more what others do, and does nothing more to the bridge and the table. For whoever takes the network
   * down, or hands it to another object.
   */
  close(): void {
    this.#node.close();
    this.#reattachment.close();
    clearTimeout(this.#keepingPositions);
  }

  /** One that is not ready is tried again, so that a remedy shows at once: without it the kubelet sends no pod. */
  async status(): Promise<NetworkStatus> {
    if (!this.#node.status.ready && performance.now() > this.#triedAt + retryMs) await this.#setUp();
    return this.#node.status;
  }

  reserve(
    podId: string,
    portMappings: readonly PortMapping[] = [],
    pod?: Pick<NetworkedPod, "annotations">,
  ): NetworkLease {
    const bandwidth = bandwidthOf(pod?.annotations ?? {});
    const ports = checkPortMappings(portMappings);
    this.#checkFamilies(ports);
    this.#hostPorts.take(podId, ports);
    let addresses: string[];
    try {
      addresses = this.#subnets.take(podId);
    } catch (error) {
      this.#hostPorts.free(podId, ports);
      throw error;
    }
    this.#keepPositions();
    return {
      provider: "builtin",
      interfaceName: "eth0",
      hostInterface: vethOf(podId),
      bridge: this.#bridge,
      mac: macOf(withoutPrefix(addresses[0] ?? "")),
      addresses,
      gateways: this.#subnets.pools.map(({ gateway }) => gateway),
      portMappings: ports,
      ...(bandwidth !== undefined && { bandwidth: { ...bandwidth, ifb: ifbOf(vethOf(podId)) } }),
    };
  }

  adopt(podId: string, lease: NetworkLease): void {
    this.#subnets.adopt(podId, lease.addresses);
    const ports = lease.portMappings ?? [];
    this.#hostPorts.take(podId, ports);
    this.#table.adopt(podId, publishedPorts(lease));
    this.#interfaces.set(podId, lease.hostInterface);
    this.#reattachment.attached(podId, lease);
  }

  async attach(podId: string, lease: NetworkLease, { namespaceFd }: { namespaceFd: number }): Promise<NetworkLease> {
    if (!this.#node.status.ready || this.#addon.linkIndex(this.#bridge) === 0) await this.#setUp();
    const { ready, message } = this.#node.status;
    if (!ready) throw new UnavailableError(`the pod network is not ready: ${message}`);
    await checkHostAddresses(this.#addon, lease.portMappings);
    const step = <T>(name: string, run: () => Promise<T>) => this.#observer.step("attach-network", name, run);
    this.#interfaces.set(podId, lease.hostInterface);
    const [interfaces, ports] = await Promise.allSettled([
      step("interfaces", () => this.#attachVeth(lease, namespaceFd)).then(() => this.#limitBandwidth(lease)),
      step("host ports", () => this.#table.publish(podId, publishedPorts(lease))),
    ]);
    if (interfaces.status === "fulfilled" && ports.status === "fulfilled") {
      this.#reattachment.attached(podId, lease);
      return lease;
    }
    await this.#deleteInterfaces(lease);
    // what cannot be removed now goes with detach, or with the next change of the table
    await this.#table.unpublish(podId).catch(() => undefined);
    throw interfaces.status === "rejected" ? interfaces.reason : (ports as PromiseRejectedResult).reason;
  }

  async detach(podId: string, lease: NetworkLease, { namespaceGone }: { namespaceGone: boolean }): Promise<void> {
    const step = <T>(name: string, run: () => Promise<T>) => this.#observer.step("detach-network", name, run);
    const freeAddresses = () => {
      this.#subnets.free(podId, lease.addresses);
      // of the last pod of an older subnet: the bridge gives up its address there, which others may have by now
      if (this.#subnets.forgetUnused()) void this.#node.leaveOlderSubnets();
    };
    this.#interfaces.delete(podId);
    this.#reattachment.detached(podId);
    try {
      await step("host ports", () => this.#table.unpublish(podId));
    } finally {
      // whatever the kernel refuses: nobody else would ever give these back
      this.#hostPorts.free(podId, lease.portMappings ?? []);
      if (namespaceGone) {
        await this.#departures.add(lease.hostInterface, podId, freeAddresses);
        if (lease.bandwidth?.egress !== undefined) await this.#addon.deleteLink(lease.bandwidth.ifb);
      } else {
        await step("interfaces", () => this.#deleteInterfaces(lease)).finally(freeAddresses);
      }
    }
  }

  async setPodCidr(cidr: string): Promise<void> {
    const subnets = splitCidrs(cidr);
    if (subnets.length === 0) return;
    const undo = this.#subnets.change(subnets);
    try {
      for (const { subnet, gateway } of this.#subnets.pools) {
        if (this.#subnets.isTaken(gateway)) {
          throw new FailedPreconditionError(
            `the gateway ${gateway} of pod CIDR ${subnet} is the address of a running pod`,
          );
        }
      }
      await this.#node.make();
    } catch (error) {
      undo();
      throw error;
    }
    if (this.#subnets.forgetUnused()) await this.#node.leaveOlderSubnets();
    writeKept(this.#cidrPath, subnets.join(","));
  }

  subnets(): readonly string[] {
    return this.#subnets.pools.map(({ subnet }) => subnet);
  }

  /** The kernel takes a pod's interface away by itself, unless somebody keeps its namespace. */
  pendingRemovals(): PendingRemoval[] {
    const error = "the kernel has not taken the pod's interface away yet";
    return this.#departures.list().map((departure) => ({ ...departure, network: this.#bridge, attempts: 0, error }));
  }

  leaks({ pods }: Known): Leak[] {
    const going = this.#departures.list().map(({ podId }) => podId);
    const isLost = (podId: string) => !pods.has(podId) && !going.includes(podId);
    const lost = (holders: [name: string, podId: string][]) => holders.filter(([, podId]) => isLost(podId));
    return [
      ...this.#node.strays([...pods, ...going].map(vethOf)),
      ...lost(this.#subnets.holders()).map(
        ([address, podId]): Leak => ({
          kind: "address",
          subject: address,
          what: `an address that pod ${podId} has, which is not known`,
          ours: true,
          repair: async () => this.#subnets.freeAllOf(podId),
        }),
      ),
      ...lost(this.#hostPorts.holders()).map(
        ([port, podId]): Leak => ({
          kind: "host port",
          subject: port,
          what: `a host port that pod ${podId} has, which is not known`,
          ours: true,
          repair: async () => {
            await this.#table.unpublish(podId);
            this.#hostPorts.freeAllOf(podId);
          },
        }),
      ),
    ];
  }

  cleanUp(): Promise<void> {
    return this.#departures.look(0);
  }

  async podRules(lease: NetworkLease): Promise<PodRules> {
    const listed = JSON.parse(await this.#addon.runNftables(listTableDocument(this.#bridge))) as ListedTable;
    const where = `from all pods, with an address of 127.0.0.0/8 (table inet ${tableName(this.#bridge)})`;
    return {
      rules: portRules(publishedPorts(lease), listed),
      drops: [{ where, packets: guardDrops(listed) }],
    };
  }

  describe(): Record<string, unknown> {
    return {
      provider: this.name,
      bridge: this.#bridge,
      mtu: this.#node.mtu,
      nftablesTable: `inet ${tableName(this.#bridge)}`,
      subnets: this.#subnets.pools.map(({ subnet, gateway, capacity }) => ({
        subnet,
        gateway,
        capacity: String(capacity),
      })),
      addressesInUse: this.#subnets.addressesInUse,
      interfacesGoing: this.#departures.count,
      hostPortsInUse: this.#hostPorts.count,
      status: this.#node.status,
    };
  }

  async #setUp(): Promise<void> {
    await this.#node.setUp();
    this.#triedAt = performance.now();
    if (!this.#node.status.ready || this.#isTidy) return;
    this.#isTidy = true;
    await this.#node.removeStrays();
    // those that went while no agent ran
    this.#reattachment.gone(undefined);
    await this.#node.leaveOlderSubnets();
  }

  async #limitBandwidth({ hostInterface, bandwidth }: NetworkLease): Promise<void> {
    if (bandwidth === undefined) return;
    await this.#observer.step("attach-network", "bandwidth", () =>
      this.#addon.shapeLink({
        link: hostInterface,
        toPodBits: bandwidth.ingress ?? 0,
        fromPodBits: bandwidth.egress ?? 0,
        ifb: bandwidth.ifb,
        alias: this.#node.alias,
      }),
    );
  }

  async #deleteInterfaces({ hostInterface, bandwidth }: NetworkLease): Promise<void> {
    await this.#addon.deleteLink(hostInterface);
    if (bandwidth?.egress !== undefined) await this.#addon.deleteLink(bandwidth.ifb);
  }

  /** A second late: what is lost with it is only where the next agent begins. */
  #keepPositions(): void {
    this.#keepingPositions ??= setTimeout(() => {
      this.#keepingPositions = undefined;
      try {
        writeKept(this.#positionsPath, JSON.stringify(this.#subnets.positions()));
      } catch (error) {
        this.#observer.emit({ type: "trouble", what: "keep the last addresses", subject: this.#positionsPath, error });
      }
    }, 1_000).unref();
  }

  /** ResourceExhaustedError: a bridge has no more ports (BR_MAX_PORTS in the kernel), also when those that leave have left. */
  async #attachVeth(lease: NetworkLease, namespaceFd: number): Promise<void> {
    const options = {
      namespaceFd,
      bridge: lease.bridge,
      hostName: lease.hostInterface,
      podName: lease.interfaceName,
      podMac: lease.mac,
      mtu: this.#node.mtu,
      addresses: lease.addresses,
      gateways: lease.gateways,
    };
    for (let tries = 1; ; ) {
      const bridge = this.#addon.linkIndex(this.#bridge);
      try {
        return await this.#addon.attachVeth(options);
      } catch (error) {
        if (isFull(error) && (await this.#departures.oneGoes(portPatienceMs))) continue;
        const isStill = bridge !== 0 && bridge === this.#addon.linkIndex(this.#bridge);
        if (isStill || tries++ === mostTries) throw attachError(error, lease.bridge);
        // somebody has deleted it meanwhile
        await this.#setUp();
      }
    }
  }

  #checkFamilies(ports: readonly PortMapping[]): void {
    for (const { hostIp } of ports) {
      const family = hostIp.includes(":") ? "IPv6" : "IPv4";
      if (hostIp !== "" && !this.#subnets.hasFamily(family)) {
        throw new InvalidArgumentError(`port_mappings: host_ip ${hostIp}: pods of this node have no ${family} address`);
      }
    }
  }
}

/** Deletes the bridge and the table: for a node that is taken out of use, and for tests. Gone already is success. */
export async function removeBuiltinNetwork(addon: NetworkAddon, bridge: string): Promise<void> {
  await addon.runNftables(removeTableDocument(bridge));
  await addon.deleteLink(bridge);
}

function publishedPorts(lease: NetworkLease): PublishedPorts {
  return { addresses: lease.addresses.map(withoutPrefix), portMappings: lease.portMappings ?? [] };
}

/** A locally administered address made from the IP address, so that a pod's neighbours need not learn it anew. */
export function macOf(address: string): string {
  const { value } = parseAddress(address);
  const low = [24n, 16n, 8n, 0n].map((shift) => Number((value >> shift) & 0xffn));
  return ["0a", "58", ...low.map((byte) => byte.toString(16).padStart(2, "0"))].join(":");
}

/** "v4", "v6" or "v4,v6", each in its one spelling; empty: none. */
function splitCidrs(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part) => formatSubnet(parseCidr(part)));
}

function readPositions(path: string): Record<string, string> {
  try {
    return JSON.parse(readKept(path) || "{}") as Record<string, string>;
  } catch {
    // it only says where to begin
    return {};
  }
}

/** What a caller is told of the addon's error. */
export function attachError(error: unknown, bridge: string): unknown {
  if (!isFull(error)) return error;
  return new ResourceExhaustedError(`bridge ${bridge} is full: the kernel gives one no more than ${mostPorts} ports`, {
    cause: error,
  });
}

function isFull(error: unknown): boolean {
  return isSystemError(error) && error.errnoName === "EXFULL";
}
