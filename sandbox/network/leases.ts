/**
 * Addresses of one subnet. Those that were never used come first, then the one that was freed longest ago (in a large subnet the
 * next in turn, which is much the same), so that a peer that still talks to a pod that is gone does not reach the next one. Pure: what must survive is in the pods' leases,
 * and where the next agent goes on (continueAfter).
 */
import { InvalidArgumentError, ResourceExhaustedError } from "../errors.js";
import {
  bitsOf,
  type Cidr,
  contains,
  formatAddress,
  formatSubnet,
  lastAddress,
  parseAddress,
  parseCidr,
} from "./cidr.js";

export class LeasePool {
  /** the subnet in its one spelling: "10.88.0.0/16" */
  readonly subnet: string;
  /** the first address of the range: the bridge's own, and the pods' default route */
  readonly gateway: string;
  readonly prefix: number;
  /** how many pods fit */
  readonly capacity: bigint;
  readonly #cidr: Cidr;
  readonly #taken: Map<string, string>;
  readonly #first: bigint;
  /** of the range: where the first turn through it begins */
  #start = 0n;
  /** how many addresses of the first turn were looked at */
  #tried = 0n;
  #lastTaken: string | undefined;
  /** oldest first */
  readonly #freed = new Set<string>();

  /**
   * `taken` holds the addresses in use, in formatAddress' spelling, and their pods; pools whose subnets overlap share one. Of a
   * subnet with more addresses than `mostRemembered` it is not remembered which were freed when: that would be one more with
   * each pod, for ever. InvalidArgumentError: no room for a gateway and a pod.
   */
  constructor(
    subnet: string,
    taken: Map<string, string> = new Map(),
    private readonly mostRemembered = 2n ** 20n,
  ) {
    this.#cidr = parseCidr(subnet);
    const { family, network, prefix } = this.#cidr;
    this.subnet = formatSubnet(this.#cidr);
    if (bitsOf(family) - prefix < 2) {
      throw new InvalidArgumentError(`subnet ${this.subnet} is too small for a gateway and pods`);
    }
    this.prefix = prefix;
    this.gateway = formatAddress({ family, value: network + 1n });
    this.#first = network + 2n;
    // IPv6 has no broadcast address
    const last = lastAddress(this.#cidr) - (family === 4 ? 1n : 0n);
    this.capacity = last - this.#first + 1n;
    this.#taken = taken;
  }

  /** The address that take() gave last; none yet: undefined. */
  get lastTaken(): string | undefined {
    return this.#lastTaken;
  }

  /** Whether a pod has an address of it, also as one of a subnet that overlaps. */
  isUsed(): boolean {
    return [...this.#taken.keys()].some((address) => contains(this.#cidr, parseAddress(address)));
  }

  /** For a pool that has given none yet: an earlier one's lastTaken, so that what was freed just now is not given again. */
  continueAfter(address: string): void {
    const parsed = parseAddress(address);
    const offset = parsed.value - this.#first;
    if (!contains(this.#cidr, parsed) || offset < 0n) return;
    this.#start = (offset + 1n) % this.capacity;
    this.#lastTaken = formatAddress(parsed);
  }

  /** ResourceExhaustedError names the subnet. */
  take(podId: string): string {
    const address = this.#neverUsed() ?? (this.capacity > this.mostRemembered ? this.#nextTurn() : this.#longestFree());
    if (address === undefined) {
      throw new ResourceExhaustedError(`all ${this.capacity} pod addresses of subnet ${this.subnet} are in use`);
    }
    this.#freed.delete(address);
    this.#taken.set(address, podId);
    this.#lastTaken = address;
    return address;
  }

  /** Takes a given address, of a pod that is there already; false: it is another's, or not one of this range. */
  adopt(address: string, podId: string): boolean {
    const parsed = parseAddress(address);
    const text = formatAddress(parsed);
    if (this.#taken.has(text) || !contains(this.#cidr, parsed)) return false;
    this.#freed.delete(text);
    this.#taken.set(text, podId);
    return true;
  }

  /** Free already, or another pod's by now, is fine: whoever takes a network away may do so twice. */
  free(address: string, podId: string): void {
    const parsed = parseAddress(address);
    const text = formatAddress(parsed);
    if (this.#taken.get(text) !== podId) return;
    this.#taken.delete(text);
    // what the first turn has not come to yet is found there
    const offset = (parsed.value - this.#first - this.#start + this.capacity) % this.capacity;
    if (offset < this.#tried && this.capacity <= this.mostRemembered) this.#freed.add(text);
  }

  #nextTurn(): string | undefined {
    this.#tried = 0n;
    return this.#neverUsed();
  }

  #neverUsed(): string | undefined {
    while (this.#tried < this.capacity) {
      const value = this.#first + ((this.#start + this.#tried++) % this.capacity);
      const address = formatAddress({ family: this.#cidr.family, value });
      if (!this.#taken.has(address)) return address;
      // an adopted one: when it is freed it is an ordinary used address
    }
    return undefined;
  }

  #longestFree(): string | undefined {
    for (const address of this.#freed) if (!this.#taken.has(address)) return address;
    return undefined;
  }
}
