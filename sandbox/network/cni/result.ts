/**
 * What an ADD has made (CNI specification, section 5 and its older versions). Results are kept and handed on as the plugin
 * gave them; this reads what the agent needs of any version, and turns one into another.
 */
import { isIP } from "node:net";
import { InternalError, messageOf } from "../../errors.js";
import { parseCidr } from "../cidr.js";
import { isAtLeast } from "./versions.js";

export type Json = Readonly<Record<string, unknown>>;

/** In the words of version 1. */
export interface CniResult {
  interfaces: CniInterface[];
  ips: CniAddress[];
  routes: Json[];
  dns: Json;
}

export interface CniInterface {
  name: string;
  mac?: string;
  /** the network namespace's path; none: it is on the host */
  sandbox?: string;
}

export interface CniAddress {
  /** "10.1.2.3/24" */
  address: string;
  gateway?: string;
  /** index in `interfaces` */
  interface?: number;
}

/** @throws InternalError: something in it is not what the specification wants */
export function readResult(raw: Json): CniResult {
  const ips = [...list(raw, "ips"), ...oldAddresses(raw)].map((value, index) => readAddress(value, `ips[${index}]`));
  return {
    interfaces: list(raw, "interfaces").map((value, index) => readInterface(value, `interfaces[${index}]`)),
    ips,
    routes: [...list(raw, "routes"), ...oldRoutes(raw)].map((value) => object(value, "routes")),
    dns: raw.dns === undefined || raw.dns === null ? {} : object(raw.dns, "dns"),
  };
}

/** As a plugin of that version of the specification would have written it. */
export function convertResult(raw: Json, version: string): Json {
  if (raw.cniVersion === version) return raw;
  const { interfaces, ips, routes, dns } = readResult(raw);
  if (isAtLeast(version, "0.3.0")) {
    const withFamily = !isAtLeast(version, "1.0.0");
    return {
      cniVersion: version,
      interfaces,
      ips: withFamily ? ips.map((ip) => ({ version: family(ip.address), ...ip })) : ips,
      routes,
      dns,
    };
  }
  const ofFamily = (wanted: "4" | "6") => {
    const ip = ips.find(({ address }) => family(address) === wanted);
    if (ip === undefined) return undefined;
    const own = routes.filter(({ dst }) => typeof dst === "string" && family(dst) === wanted);
    return { ip: ip.address, ...(ip.gateway !== undefined && { gateway: ip.gateway }), routes: own };
  };
  const [ip4, ip6] = [ofFamily("4"), ofFamily("6")];
  return { cniVersion: version, ...(ip4 && { ip4 }), ...(ip6 && { ip6 }), dns };
}

function readAddress(value: unknown, field: string): CniAddress {
  const { address, gateway, interface: index } = object(value, field);
  if (typeof address !== "string") throw new InternalError(`${field}.address is ${JSON.stringify(address)}`);
  try {
    parseCidr(address);
  } catch (error) {
    throw new InternalError(`${field}.address: ${messageOf(error)}`);
  }
  if (gateway !== undefined && gateway !== "" && (typeof gateway !== "string" || isIP(gateway) === 0)) {
    throw new InternalError(`${field}.gateway is ${JSON.stringify(gateway)}, no address`);
  }
  return {
    address,
    ...(typeof gateway === "string" && gateway !== "" && { gateway }),
    ...(typeof index === "number" && { interface: index }),
  };
}

function readInterface(value: unknown, field: string): CniInterface {
  const { name, ...rest } = object(value, field);
  if (typeof name !== "string" || name === "") throw new InternalError(`${field}.name is ${JSON.stringify(name)}`);
  for (const part of ["mac", "sandbox"]) {
    const text = rest[part] ?? "";
    if (typeof text !== "string") throw new InternalError(`${field}.${part} is ${JSON.stringify(text)}`);
  }
  return { name, ...rest };
}

/** Before 0.3 there was one address a family. */
function oldAddresses(raw: Json): Json[] {
  return oldFamilies(raw).map(({ ip, gateway }) => ({ address: ip, ...(gateway !== undefined && { gateway }) }));
}

function oldRoutes(raw: Json): unknown[] {
  return oldFamilies(raw).flatMap((family) => list(family, "routes"));
}

function oldFamilies(raw: Json): Json[] {
  return [raw.ip4, raw.ip6]
    .filter((value) => value !== undefined && value !== null)
    .map((value) => object(value, "ip4"));
}

function list(raw: Json, name: string): unknown[] {
  const value = raw[name] ?? [];
  if (!Array.isArray(value)) throw new InternalError(`${name} is no list`);
  return value;
}

function object(value: unknown, field: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InternalError(`${field} is no object`);
  }
  return value as Json;
}

function family(cidr: string): "4" | "6" {
  return cidr.includes(":") ? "6" : "4";
}
