/**
 * The elements of the table's maps and sets that lead a pod's host ports: in the words of libnftables' JSON, for a whole
 * table, and in bytes, for a change. Pure.
 */
import type { SetElement } from "../../native/binding.js";
import { bitsOf, type Family, parseAddress } from "./cidr.js";
import { isWide } from "./host-ports.js";
import type { PortMapping } from "./provider.js";

/** The host ports of one pod, and where they lead. */
export interface PublishedPorts {
  /** the pod's own, without prefix lengths */
  addresses: string[];
  portMappings: readonly PortMapping[];
}

/** Addresses and protocols are text, ports are numbers. */
export interface PortElement {
  set: string;
  key: (string | number)[];
  /** of a map */
  value?: string | number;
}

/** Each once: what is removed twice with one change would refuse it. */
export function portElements({ addresses, portMappings }: PublishedPorts): PortElement[] {
  const elements = addresses.flatMap((address) => {
    const family = familyOf(address);
    return portMappings
      .filter(({ hostIp }) => hostIp === "" || familyOf(hostIp) === family)
      .flatMap(({ protocol, hostPort, hostIp, containerPort }): PortElement[] => {
        const bound = !isWide({ hostIp });
        const kind = bound ? "bound" : "any";
        const key = bound ? [hostIp, protocol, hostPort] : [protocol, hostPort];
        return [
          { set: `${kind}_address${family}`, key, value: address },
          { set: `${kind}_port${family}`, key, value: containerPort },
          { set: `hairpin${family}`, key: [address, protocol, containerPort] },
        ];
      });
  });
  return [...new Map(elements.map((element) => [`${element.set} ${element.key.join(" ")}`, element])).values()];
}

/** As the kernel compares them: each part of a key is filled up to four bytes. */
export function toBytes({ set, key, value }: PortElement): SetElement {
  const padded = key.map((part) => {
    const bytes = bytesOf(part);
    return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  });
  return { set, key: Buffer.concat(padded), ...(value !== undefined && { value: bytesOf(value) }) };
}

export function familyOf(text: string): Family {
  return text.includes(":") ? 6 : 4;
}

const protocols = { tcp: 6, udp: 17, sctp: 132 } as const;

function bytesOf(part: string | number): Buffer {
  if (typeof part === "number") return Buffer.from([part >> 8, part & 0xff]);
  if (part in protocols) return Buffer.from([protocols[part as keyof typeof protocols]]);
  const { family, value } = parseAddress(part);
  return Buffer.from(value.toString(16).padStart(bitsOf(family) / 4, "0"), "hex");
}
