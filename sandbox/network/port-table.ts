/**
 * The network's table in the kernel (nftables.ts has its words): what stands in it, and what shall. Transactions run in the
 * order in which they were decided.
 */
import type { Addon } from "../../native/binding.js";
import { tableDocument, tableName } from "./nftables.js";
import { type PublishedPorts, portElements, toBytes } from "./port-elements.js";

type TableAddon = Pick<Addon, "runNftables" | "changeSetElements" | "forgetUdpFlows">;

export class PortTable {
  readonly #addon: TableAddon;
  readonly #bridge: string;
  readonly #isOurs: () => boolean;
  readonly #subnets: () => string[];
  readonly #onTrouble: (error: unknown) => void;
  /** what stands, or shall stand, in the maps, by pod */
  readonly #published = new Map<string, PublishedPorts>();
  /** something that could not be removed stands there still */
  #stale = false;
  #transactions: Promise<unknown> = Promise.resolve();

  constructor(options: {
    addon: TableAddon;
    bridge: string;
    /** another agent's is left as it is */
    isOurs: () => boolean;
    /** all that pods have addresses of, none within another */
    subnets: () => string[];
    /** the kernel does not forget flows: ports work all the same */
    onTrouble: (error: unknown) => void;
  }) {
    this.#addon = options.addon;
    this.#bridge = options.bridge;
    this.#isOurs = options.isOurs;
    this.#subnets = options.subnets;
    this.#onTrouble = options.onTrouble;
  }

  /** Ports of a pod that is there already; they are written with the whole table. */
  adopt(podId: string, ports: PublishedPorts): void {
    if (ports.portMappings.length > 0) this.#published.set(podId, ports);
  }

  /** The whole table, in one transaction: whatever was missing is there again, and what is nobody's any more is gone. */
  async write(): Promise<void> {
    this.#stale = true;
    await this.#transaction(() =>
      this.#addon.runNftables(tableDocument(this.#bridge, this.#subnets(), [...this.#published.values()])),
    );
    this.#stale = false;
  }

  async publish(podId: string, ports: PublishedPorts): Promise<void> {
    if (ports.portMappings.length === 0) return;
    this.#published.set(podId, ports);
    try {
      await this.#changeOrWhole(ports, false);
    } catch (error) {
      this.#published.delete(podId);
      throw error;
    }
    await this.#forgetUdpFlows(ports);
  }

  async unpublish(podId: string): Promise<void> {
    const ports = this.#published.get(podId);
    this.#published.delete(podId);
    if (!this.#isOurs()) return;
    // nothing of this pod is in the table, unless what should have gone is there still
    if (ports === undefined && !this.#stale) return;
    await this.#changeOrWhole(ports ?? { addresses: [], portMappings: [] }, true);
    if (ports !== undefined) await this.#forgetUdpFlows(ports);
  }

  /** Whoever goes on sending to the port is led as it is from now on, not as it was at the first packet. */
  async #forgetUdpFlows({ addresses, portMappings }: PublishedPorts): Promise<void> {
    const udp = portMappings.filter(({ protocol }) => protocol === "udp").map(({ hostPort }) => String(hostPort));
    if (udp.length === 0) return;
    try {
      await this.#addon.forgetUdpFlows({ ports: udp, addresses });
    } catch (error) {
      this.#onTrouble(error);
    }
  }

  /** When somebody has flushed or changed the table, or when a removal has failed before, it is written whole. */
  async #changeOrWhole(ports: PublishedPorts, remove: boolean): Promise<void> {
    if (!this.#stale) {
      try {
        const elements = portElements(ports).map(toBytes);
        return await this.#transaction(() =>
          this.#addon.changeSetElements({ table: tableName(this.#bridge), remove, elements }),
        );
      } catch {
        // the whole table says what is wrong
      }
    }
    await this.write();
  }

  #transaction(run: () => Promise<unknown>): Promise<void> {
    const result = this.#transactions.then(async () => {
      await run();
    });
    this.#transactions = result.catch(() => undefined);
    return result;
  }
}
