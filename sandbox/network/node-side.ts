/** What all pods of the built-in network share on the host: the bridge, the table, and the host's own settings. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { type Addon, isSystemError, type NetworkChange } from "../../native/binding.js";
import { FailedPreconditionError, messageOf } from "../errors.js";
import type { Leak } from "../leaks/leak.js";
import { monitorProcesses } from "../monitor-processes.js";
import type { Observer } from "../observer.js";
import { BridgeHold, portsOf } from "./bridge-hold.js";
import { findOverlaps, formatRoute } from "./host-routes.js";
import { enableForwarding, setSwitch, uplinkMtu } from "./host-settings.js";
import { ifb, ifbOf, veth, vethOf } from "./interface-names.js";
import { tableName } from "./nftables.js";
import type { PortTable } from "./port-table.js";
import type { NetworkStatus } from "./provider.js";
import { Restorer } from "./restorer.js";
import type { Subnets } from "./subnets.js";

export interface NodeSideOptions {
  addon: Pick<
    Addon,
    | "ensureBridge"
    | "removeOlderAddresses"
    | "joinBridge"
    | "deleteLink"
    | "linkIndex"
    | "listRoutes"
    | "watchNetwork"
    | "lockFile"
    | "closeDescriptor"
  >;
  bridge: string;
  /** the agent's own directory for what runs: pods below it are its own */
  run: string;
  subnets: Subnets;
  table: PortTable;
  /** the bridge's ports: the host's ends of all pods that are known */
  interfaces: () => string[];
  observer: Observer;
  /** an interface of the host has gone, whosever it was; undefined: some may have gone unnoticed */
  onLinkGone: (name: string | undefined) => void;
}

/** That every link with the family has to carry. */
const leastMtu4 = 576;
const leastMtu6 = 1280;
/** for as long as somebody deletes the bridge again and again */
const mostTries = 5;

export class NodeSide {
  readonly #options: NodeSideOptions;
  readonly #restorer: Restorer;
  readonly #hold: BridgeHold;
  #status: NetworkStatus = { ready: false, reason: "NetworkNotReady", message: "the network was not started yet" };
  #mtu = 1500;
  #setUp: Promise<void> | undefined;
  #watch: { close(): void } | undefined;

  constructor(options: NodeSideOptions) {
    this.#options = options;
    const { bridge, observer } = options;
    this.#hold = new BridgeHold(options);
    this.#restorer = new Restorer({
      restore: async () => {
        await this.setUp();
        return this.#status.ready;
      },
      onRestored: (what) => observer.emit({ type: "restored", what, subject: bridge }),
    });
  }

  get status(): NetworkStatus {
    return this.#status;
  }

  /** The bridge and its table are this agent's, and not another one's. */
  get isHeld(): boolean {
    return this.#hold.isHeld;
  }

  /** of the bridge, and of pods that are attached from now on */
  get mtu(): number {
    return this.#mtu;
  }

  /** Of interfaces that are no ports of the bridge. */
  get alias(): string {
    return `berth ${this.#options.bridge}`;
  }

  /** Callers at the same time share one attempt; it leaves its outcome in the status. */
  setUp(): Promise<void> {
    this.#setUp ??= this.make()
      .then((notes) => {
        this.#status = { ready: true, reason: "", message: notes.join("; ") };
      })
      .catch((error: unknown) => {
        const message = `bridge ${this.#options.bridge} cannot be set up: ${messageOf(error)}`;
        this.#status = { ready: false, reason: "NetworkNotReady", message };
      })
      .finally(() => {
        this.#setUp = undefined;
      });
    return this.#setUp;
  }

  /** Makes what is missing; answers a sentence for each setting of the host that was changed for it. */
  async make(): Promise<string[]> {
    const { addon, bridge, subnets, table, interfaces } = this.#options;
    await this.#hold.take();
    this.#mtu = Math.max(uplinkMtu(), subnets.hasFamily("IPv6") ? leastMtu6 : leastMtu4);
    await this.#checkRoutes();
    // before anything is made: what is taken away from then on is noticed
    this.#watch ??= addon.watchNetwork({ bridge, table: tableName(bridge) }, (change) => this.#noticed(change));
    return this.#whileItStays(async () => {
      // the rule that guards route_localnet comes first
      await table.write();
      setSwitch(`ipv4/conf/${bridge}/route_localnet`, "1");
      // a pod may say that it is a router: the host must not go by it (CVE-2020-10749)
      if (existsSync("/proc/sys/net/ipv6")) setSwitch(`ipv6/conf/${bridge}/accept_ra`, "0");
      // pods that were there before the bridge
      await addon.joinBridge({ bridge, interfaces: interfaces() });
      return enableForwarding(subnets.hasFamily("IPv6"));
    });
  }

  /** `work` is for a bridge that is there: with one that somebody deletes meanwhile all is done again. */
  async #whileItStays<T>(work: () => Promise<T>): Promise<T> {
    const { addon, bridge, subnets } = this.#options;
    for (let tries = 1; ; tries++) {
      let index: number | undefined;
      const isStill = () => index !== 0 && index === addon.linkIndex(bridge);
      try {
        await addon.ensureBridge({ name: bridge, addresses: subnets.gateways(), mtu: this.#mtu });
        index = addon.linkIndex(bridge);
        const result = await work();
        if (isStill() || tries === mostTries) return result;
      } catch (error) {
        // one that cannot be made is not there either
        if (isStill() || tries === mostTries || (index === undefined && !isGone(error))) throw error;
      }
    }
  }

  /** The kernel would hold on to its routes to subnets that may be another node's by now. */
  async leaveOlderSubnets(): Promise<void> {
    const { addon, bridge, subnets, table, observer } = this.#options;
    if (!this.isHeld) return;
    try {
      await addon.removeOlderAddresses({ bridge, wanted: subnets.gateways() });
      await table.write();
    } catch (error) {
      observer.emit({ type: "trouble", what: "leave older subnets", subject: bridge, error });
    }
  }

  async removeStrays(): Promise<void> {
    const { observer } = this.#options;
    for (const { subject, repair } of this.strays([])) {
      try {
        await repair();
        observer.emit({ type: "repaired", what: "interface of a lost pod", subject });
      } catch (error) {
        observer.emit({ type: "trouble", what: "remove the interface of a lost pod", subject, error });
      }
    }
  }

  /** Interfaces of pods that no record knows: they would answer for addresses that are given to others. */
  strays(besideKnown: readonly string[]): Leak[] {
    const { addon, bridge, interfaces } = this.#options;
    if (!this.isHeld) return [];
    const known = new Set([...interfaces(), ...besideKnown].flatMap((name) => [name, ifbOf(name)]));
    const ports = portsOf(bridge).filter((name) => veth.test(name));
    // those of other agents have other aliases
    const ifbs = readdirSync("/sys/class/net").filter((name) => ifb.test(name) && aliasOf(name) === this.alias);
    const strays = [...ports, ...ifbs].filter((name) => !known.has(name));
    return strays.map((name) => ({
      kind: "interface",
      subject: name,
      what: `an interface on the bridge ${bridge}, of a pod that is not known`,
      ours: true,
      repair: async () => {
        const living = monitorProcesses().map(({ podId }) => vethOf(podId));
        if (living.some((veth) => [veth, ifbOf(veth)].includes(name))) {
          throw new FailedPreconditionError(
            `its pod lives, without a record of it: ${bridge} may be another agent's (--bridge, --subnet)`,
          );
        }
        await addon.deleteLink(name);
      },
    }));
  }

  /** Does not notice any more what others do, and leaves the bridge to another agent. */
  close(): void {
    this.#watch?.close();
    this.#restorer.close();
    this.#hold.close();
  }

  /** What another program does to the network is undone; it tells of our own doings, too, but for the table's. */
  #noticed({ kind, name }: NetworkChange): void {
    const { bridge, onLinkGone } = this.#options;
    if (kind === "link-gone") onLinkGone(name);
    if (kind === "missed") onLinkGone(undefined);
    if (kind === "missed" || kind === "table-changed") this.#restorer.missed(`table ${tableName(bridge)}`);
    if (kind === "missed" || this.#isBridges(kind, name)) this.#restorer.missed(`bridge ${bridge}`);
  }

  #isBridges(kind: NetworkChange["kind"], name: string): boolean {
    const { addon, bridge, subnets, interfaces } = this.#options;
    // with its prefix: the kubelet's range is often the first part of an older one, whose address goes then
    if (kind === "address-gone") return subnets.gateways().includes(name);
    if (kind === "link-gone" || kind === "link-down" || kind === "port-gone") {
      // one that has gone altogether cannot be a port again
      return name === bridge || (kind !== "link-gone" && interfaces().includes(name) && addon.linkIndex(name) !== 0);
    }
    return false;
  }

  /** FailedPreconditionError names the route: a second one for the same addresses would cut off whoever has them now. */
  async #checkRoutes(): Promise<void> {
    const { addon, bridge, subnets } = this.#options;
    const own = subnets.pools.map(({ subnet }) => subnet);
    const overlap = findOverlaps(own, bridge, await addon.listRoutes({})).find(({ within }) => within);
    if (overlap === undefined) return;
    throw new FailedPreconditionError(
      `the pod subnet ${overlap.subnet} overlaps the host's route ${formatRoute(overlap.route)}`,
    );
  }
}

function isGone(error: unknown): boolean {
  return isSystemError(error) && error.errnoName === "ENODEV";
}

/** Empty: it has none, or it has gone. */
function aliasOf(name: string): string {
  return readText(`/sys/class/net/${name}/ifalias`).trim();
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
