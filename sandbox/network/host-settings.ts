/** What pods need of the host's own network settings. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const sysctls = "/proc/sys/net";

/**
 * Sets a switch below /proc/sys/net ("ipv4/ip_forward") when it has another value; true: it had. Throws the file
 * system's error, which names the file.
 */
export function setSwitch(name: string, value: "0" | "1"): boolean {
  const path = join(sysctls, name);
  if (readFileSync(path, "utf8").trim() === value) return false;
  writeFileSync(path, value);
  return true;
}

/** Forwarding between interfaces; answers a sentence for each switch that had to be set. */
export function enableForwarding(withIpv6: boolean): string[] {
  const notes: string[] = [];
  if (setSwitch("ipv4/ip_forward", "1")) notes.push("net.ipv4.ip_forward was 0 and has been set to 1");
  if (withIpv6 && setSwitch("ipv6/conf/all/forwarding", "1")) {
    notes.push("net.ipv6.conf.all.forwarding was 0 and has been set to 1");
  }
  return notes;
}

/** The MTU of the interface that the default route leads through; 1500 when there is none. */
export function uplinkMtu(): number {
  const uplink = defaultRouteInterface(readFileSync("/proc/net/route", "utf8"));
  if (uplink === undefined) return 1500;
  const mtu = Number(readFileSync(join("/sys/class/net", uplink, "mtu"), "utf8"));
  return mtu >= 1280 ? mtu : 1500;
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
