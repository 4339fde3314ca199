/** Addresses and subnets as numbers, IPv4 and IPv6 alike. Pure. */
import { isIP, SocketAddress } from "node:net";
import { InvalidArgumentError } from "../errors.js";

export type Family = 4 | 6;

export interface Address {
  family: Family;
  value: bigint;
}

/** An address with a prefix length; `network` is the address with the host's bits cleared. */
export interface Cidr {
  family: Family;
  address: bigint;
  network: bigint;
  prefix: number;
}

export function bitsOf(family: Family): number {
  return family === 4 ? 32 : 128;
}

/** InvalidArgumentError names the text. Zones ("%eth0") are refused. */
export function parseAddress(text: string): Address {
  const family = text.includes("%") ? 0 : isIP(text);
  if (family === 4) return { family, value: dottedValue(text) };
  if (family === 6) return { family, value: hextetsValue(text) };
  throw new InvalidArgumentError(`"${text}" is not an IP address`);
}

export function formatAddress({ family, value }: Address): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join(".");
  const hex = value.toString(16).padStart(32, "0");
  const address = (hex.match(/.{4}/g) ?? []).join(":");
  return new SocketAddress({ family: "ipv6", address }).address;
}

/** "10.88.0.5/16" or "fd00::/64". InvalidArgumentError names the text. */
export function parseCidr(text: string): Cidr {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  if (match === null)
    throw new InvalidArgumentError(`"${text}" is not a subnet: an address, a slash and a prefix length`);
  const { family, value } = parseAddress(match[1] ?? "");
  const prefix = Number(match[2]);
  const bits = bitsOf(family);
  if (prefix > bits)
    throw new InvalidArgumentError(`"${text}" is not a subnet: the prefix is longer than ${bits} bits`);
  const hostBits = BigInt(bits - prefix);
  return { family, address: value, network: (value >> hostBits) << hostBits, prefix };
}

/** The subnet that a CIDR lies in, in its one spelling: "10.88.0.5/16" is in "10.88.0.0/16". */
export function formatSubnet(cidr: Cidr): string {
  return `${formatAddress({ family: cidr.family, value: cidr.network })}/${cidr.prefix}`;
}

export function lastAddress(cidr: Cidr): bigint {
  return cidr.network + (1n << BigInt(bitsOf(cidr.family) - cidr.prefix)) - 1n;
}

export function contains(cidr: Cidr, address: Address): boolean {
  return address.family === cidr.family && address.value >= cidr.network && address.value <= lastAddress(cidr);
}

/** Whether others can reach the address of the CIDR as one machine's: neither any, nor loopback's, nor multicast's. */
export function isUnicast(text: string): boolean {
  const { family, address } = parseCidr(text);
  const first = Number(address >> BigInt(bitsOf(family) - 8));
  if (family === 6) return address > 1n && first !== 0xff;
  // what was kept for later (240.0.0.0/4) is in use today
  return first !== 0 && first !== 127 && (first < 224 || first >= 240) && address !== 0xffff_ffffn;
}

/** The subnets without those that lie in another of them: what a set of intervals may hold. */
export function withoutContained(subnets: readonly string[]): string[] {
  const cidrs = [...new Set(subnets)].map((text) => ({ text, cidr: parseCidr(text) }));
  const inside = (inner: Cidr, outer: Cidr) =>
    outer.prefix < inner.prefix && contains(outer, { family: inner.family, value: inner.network });
  return cidrs.filter(({ cidr }) => !cidrs.some((other) => inside(cidr, other.cidr))).map(({ text }) => text);
}

function dottedValue(text: string): bigint {
  return text.split(".").reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

function hextetsValue(text: string): bigint {
  const embedded = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  let hextets = text;
  if (embedded !== null) {
    const low = dottedValue(embedded[2] ?? "");
    hextets = `${embedded[1]}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`;
  }
  const [head = "", tail] = hextets.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array<string>(zeros).fill("0"), ...right].reduce(
    (value, hextet) => (value << 16n) | BigInt(`0x${hextet}`),
    0n,
  );
}
