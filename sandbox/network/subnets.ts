/** The node's pod subnets, one of each family, and those that older pods still have their addresses from. Pure. */
import { InvalidArgumentError } from "../errors.js";
import { contains, formatSubnet, isUnicast, parseAddress, parseCidr, withoutContained } from "./cidr.js";
import { LeasePool } from "./leases.js";

export class Subnets {
  readonly #taken = new Map<string, string>();
  /** new pods' addresses come from these; the first one is the primary */
  #pools: readonly LeasePool[] = [];
  /** these and the older ones, by subnet */
  readonly #all = new Map<string, LeasePool>();

  /** InvalidArgumentError: a malformed subnet, none, or two of one family. */
  constructor(subnets: readonly string[]) {
    this.change(subnets);
  }

  get pools(): readonly LeasePool[] {
    return this.#pools;
  }

  get addressesInUse(): number {
    return this.#taken.size;
  }

  /** All that pods may have addresses of, none within another. */
  all(): string[] {
    return withoutContained([...this.#all.keys()]);
  }

  /** The bridge's own addresses, as CIDRs, the primary one first: pods of older subnets go by theirs still. */
  gateways(): string[] {
    const pools = new Set([...this.#pools, ...this.#all.values()]);
    return [...pools].map(({ gateway, prefix }) => `${gateway}/${prefix}`);
  }

  /** Forgets older subnets that no pod has an address of any more; whether there were any. */
  forgetUnused(): boolean {
    const older = [...this.#all.values()].filter((pool) => !this.#pools.includes(pool));
    const unused = older.filter((pool) => !pool.isUsed());
    for (const { subnet } of unused) this.#all.delete(subnet);
    return unused.length > 0;
  }

  /** ids of the pods that have addresses, and those */
  holders(): [address: string, podId: string][] {
    return [...this.#taken];
  }

  /** Frees whatever the pod has; it has nothing is fine. */
  freeAllOf(podId: string): void {
    for (const [address, holder] of [...this.#taken]) {
      if (holder !== podId) continue;
      const parsed = parseAddress(address);
      [...this.#all.values()].find(({ subnet }) => contains(parseCidr(subnet), parsed))?.free(address, podId);
    }
  }

  isTaken(address: string): boolean {
    return this.#taken.has(address);
  }

  hasFamily(family: "IPv4" | "IPv6"): boolean {
    return this.#pools.some(({ subnet }) => subnet.includes(":") === (family === "IPv6"));
  }

  /** For new pods. Answers what undoes it. Errors as the constructor's; then nothing has changed. */
  change(subnets: readonly string[]): () => void {
    const odd = subnets.find((subnet) => !isUnicast(subnet));
    if (odd !== undefined) throw new InvalidArgumentError(`"${odd}" has no addresses for pods`);
    const pools = subnets.map(
      (subnet) => this.#all.get(formatSubnet(parseCidr(subnet))) ?? new LeasePool(subnet, this.#taken),
    );
    const families = new Set(pools.map(({ subnet }) => subnet.includes(":")));
    if (pools.length === 0 || families.size !== pools.length) {
      throw new InvalidArgumentError(
        `"${subnets.join(",")}": one IPv4 subnet, one IPv6 subnet, or one of each is needed`,
      );
    }
    const before = this.#pools;
    const added = pools.filter(({ subnet }) => !this.#all.has(subnet));
    for (const pool of added) this.#all.set(pool.subnet, pool);
    this.#pools = pools;
    return () => {
      this.#pools = before;
      for (const { subnet } of added) this.#all.delete(subnet);
    };
  }

  /** An address of each subnet, as CIDRs. ResourceExhaustedError names the subnet that is full; then none is taken. */
  take(podId: string): string[] {
    const addresses: string[] = [];
    try {
      for (const pool of this.#pools) addresses.push(`${pool.take(podId)}/${pool.prefix}`);
    } catch (error) {
      this.free(podId, addresses);
      throw error;
    }
    return addresses;
  }

  /** By subnet, the address that was given last. */
  positions(): Record<string, string> {
    return Object.fromEntries(
      [...this.#all.values()].flatMap(({ subnet, lastTaken }) =>
        lastTaken === undefined ? [] : [[subnet, lastTaken]],
      ),
    );
  }

  /** Goes on where an earlier agent has stopped. For subnets of which no address was given yet. */
  continueFrom(positions: Readonly<Record<string, string>>): void {
    for (const pool of this.#all.values()) {
      const last = positions[pool.subnet];
      if (last !== undefined && pool.lastTaken === undefined) pool.continueAfter(last);
    }
  }

  adopt(podId: string, addresses: readonly string[]): void {
    for (const address of addresses) this.#poolOf(address).adopt(withoutPrefix(address), podId);
  }

  /** Free already, or another pod's by now, is fine. */
  free(podId: string, addresses: readonly string[]): void {
    for (const address of addresses) this.#poolOf(address).free(withoutPrefix(address), podId);
  }

  /** The pool of a lease's CIDR; made when the node's subnets have changed since. */
  #poolOf(address: string): LeasePool {
    const subnet = formatSubnet(parseCidr(address));
    const pool = this.#all.get(subnet) ?? new LeasePool(subnet, this.#taken);
    this.#all.set(subnet, pool);
    return pool;
  }
}

/** "10.88.0.5" of "10.88.0.5/16" */
export function withoutPrefix(cidr: string): string {
  return cidr.split("/")[0] ?? cidr;
}
