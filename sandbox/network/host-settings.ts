/** What pods need of the host's own network settings. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const sysctls = "/proc/sys/net";

/**
 * Sets a switch below /proc/sys/net ("ipv4/ip_forward") when it has another value; true: it had. Throws the file
 * system's error, which names the file.
 */
export function setSwitch(name: string, value: "0" | "1" | "2"): boolean {
  if (readSwitch(name) === value) return false;
  writeFileSync(join(sysctls, name), value);
  return true;
}

/** Forwarding between interfaces; answers a sentence for each switch that had to be set. */
export function enableForwarding(withIpv6: boolean): string[] {
  const notes: string[] = [];
  if (setSwitch("ipv4/ip_forward", "1")) notes.push("net.ipv4.ip_forward was 0 and has been set to 1");
  if (!withIpv6 || readSwitch("ipv6/conf/all/forwarding") !== "0") return notes;
  // the kernel takes routers' advertisements for a host's only, unless it is told otherwise before: the node would lose
  // its way out
  for (const { name, advertised } of defaultRoutes6(readTable("ipv6_route"))) {
    const acceptRa = `ipv6/conf/${name}/accept_ra`;
    if (!advertised || readSwitch(acceptRa) !== "1") continue;
    setSwitch(acceptRa, "2");
    notes.push(`net.ipv6.conf.${name}.accept_ra was 1 and has been set to 2`);
  }
  setSwitch("ipv6/conf/all/forwarding", "1");
  notes.push("net.ipv6.conf.all.forwarding was 0 and has been set to 1");
  return notes;
}

/** The MTU of the interfaces that the default routes lead through, the lesser one of two; 1500 when there are none. */
export function uplinkMtu(): number {
  const uplinks = [defaultRouteInterface(readTable("route")), defaultRoutes6(readTable("ipv6_route"))[0]?.name];
  const mtus = uplinks
    .filter((name) => name !== undefined)
    .map((name) => Number(readFileSync(join("/sys/class/net", name, "mtu"), "utf8")));
  const mtu = Math.min(...mtus);
  return Number.isFinite(mtu) ? mtu : 1500;
}

function readSwitch(name: string): string {
  return readFileSync(join(sysctls, name), "utf8").trim();
}

/** Empty: the kernel has no such family. */
function readTable(name: "route" | "ipv6_route"): string {
  try {
    return readFileSync(`/proc/net/${name}`, "utf8");
  } catch {
    return "";
  }
}

const routeIsUp = 0x0001;
const routeRejects = 0x0200;
const routeIsAdvertised = 0x0004_0000;

/** Of /proc/net/ipv6_route, the default routes' interfaces, that with the least metric first. */
export function defaultRoutes6(table: string): { name: string; advertised: boolean }[] {
  return table
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .map(([destination, length, , , , metric = "", , , flags = "", name = ""]) => ({
      isDefault: destination === "0".repeat(32) && length === "00",
      metric: Number.parseInt(metric, 16),
      flags: Number.parseInt(flags, 16),
      name,
    }))
    .filter(({ isDefault, flags }) => isDefault && (flags & routeIsUp) !== 0 && (flags & routeRejects) === 0)
    .sort((one, other) => one.metric - other.metric)
    .map(({ name, flags }) => ({ name, advertised: (flags & routeIsAdvertised) !== 0 }));
}

/** Of /proc/net/route, the default route with the least metric. */
export function defaultRouteInterface(table: string): string | undefined {
  const rows = table
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter(([, destination, , flags, , , , mask]) => {
      const up = (Number.parseInt(flags ?? "0", 16) & 1) !== 0;
      return up && destination === "00000000" && mask === "00000000";
    })
    .sort((one, other) => Number(one[6]) - Number(other[6]));
  return rows[0]?.[0];
}
