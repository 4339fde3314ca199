/** Which ports of the node belong to which pod. Pure; the kernel's side is in nftables.ts. */
import { FailedPreconditionError, InvalidArgumentError } from "../errors.js";
import { formatAddress, parseAddress } from "./cidr.js";
import type { PortMapping } from "./provider.js";

/**
 * The mappings that have a host port, checked, with their addresses in one spelling; the others only document a port.
 * One of all addresses may stand beside one of a single address, which then wins there: they are one pod's, whose containers
 * have agreed on it. InvalidArgumentError names the mapping and the field.
 */
export function checkPortMappings(mappings: readonly PortMapping[]): PortMapping[] {
  const seen: PortMapping[] = [];
  for (const [index, mapping] of mappings.entries()) {
    const field = `config.port_mappings[${index}]`;
    if (mapping.hostPort === 0) continue;
    checkPort(`${field}.host_port`, mapping.hostPort);
    checkPort(`${field}.container_port`, mapping.containerPort);
    const checked = { ...mapping, hostIp: checkHostIp(`${field}.host_ip`, mapping.hostIp) };
    const twin = seen.find((other) => overlap(other, checked) && isWide(other) === isWide(checked));
    if (twin !== undefined) {
      throw new InvalidArgumentError(`${field}: host port ${describe(checked)} is mapped twice`);
    }
    seen.push(checked);
  }
  return seen;
}

export class HostPorts {
  /** "tcp/8080" → who has it, on which addresses */
  readonly #holders = new Map<string, { podId: string; mapping: PortMapping }[]>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** "tcp/8080" of each mapping, and whose it is */
  holders(): [port: string, podId: string][] {
    return [...this.#holders.values()].flat().map(({ podId, mapping }) => [describe(mapping), podId]);
  }

  /** Frees whatever the pod has; it has nothing is fine. */
  freeAllOf(podId: string): void {
    const held = [...this.#holders.values()].flat().filter((holder) => holder.podId === podId);
    this.free(
      podId,
      held.map(({ mapping }) => mapping),
    );
  }

  /** All or none. FailedPreconditionError names the pod that has one of them. */
  take(podId: string, mappings: readonly PortMapping[]): void {
    for (const mapping of mappings) {
      const holder = this.#holders.get(key(mapping))?.find((other) => overlap(other.mapping, mapping));
      if (holder !== undefined && holder.podId !== podId) {
        throw new FailedPreconditionError(`host port ${describe(mapping)} is held by pod sandbox ${holder.podId}`);
      }
    }
    this.free(podId, mappings);
    for (const mapping of mappings) {
      const holders = this.#holders.get(key(mapping)) ?? [];
      holders.push({ podId, mapping });
      this.#holders.set(key(mapping), holders);
      this.#count++;
    }
  }

  /** Free already is fine. */
  free(podId: string, mappings: readonly PortMapping[]): void {
    for (const mapping of mappings) {
      const holders = this.#holders.get(key(mapping)) ?? [];
      const left = holders.filter((holder) => holder.podId !== podId);
      this.#count -= holders.length - left.length;
      if (left.length === 0) this.#holders.delete(key(mapping));
      else this.#holders.set(key(mapping), left);
    }
  }
}

function key(mapping: PortMapping): string {
  return `${mapping.protocol}/${mapping.hostPort}`;
}

/** "tcp/8080" or "tcp/127.0.0.1:8080" */
function describe(mapping: PortMapping): string {
  return mapping.hostIp === "" ? key(mapping) : `${mapping.protocol}/${mapping.hostIp}:${mapping.hostPort}`;
}

function overlap(one: PortMapping, other: PortMapping): boolean {
  return (
    key(one) === key(other) &&
    (one.hostIp === other.hostIp || coversAddress(one.hostIp, other.hostIp) || coversAddress(other.hostIp, one.hostIp))
  );
}

/** Whether it is on all addresses, of one family or of both. */
export function isWide({ hostIp }: Pick<PortMapping, "hostIp">): boolean {
  return hostIp === "" || hostIp === "0.0.0.0" || hostIp === "::";
}

/** Whether a mapping on `wide` answers on the address `narrow`, too. */
function coversAddress(wide: string, narrow: string): boolean {
  if (wide === "") return true;
  if (wide === "0.0.0.0") return !narrow.includes(":");
  return wide === "::" && narrow.includes(":");
}

/** Whether a mapping's host_ip is one address, which the host must have: neither any nor one of all that are loopback's. */
export function isHostAddress(hostIp: string): boolean {
  return !isWide({ hostIp }) && !hostIp.startsWith("127.");
}

function checkPort(field: string, port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new InvalidArgumentError(`${field} is ${port}; a port is between 1 and 65535`);
  }
}

function checkHostIp(field: string, hostIp: string): string {
  if (hostIp === "") return "";
  let text: string;
  try {
    text = formatAddress(parseAddress(hostIp));
  } catch {
    throw new InvalidArgumentError(`${field}: "${hostIp}" is not an IP address`);
  }
  if (text === "::1") {
    throw new InvalidArgumentError(`${field}: the kernel cannot lead connections to ::1 into a pod`);
  }
  return text;
}
