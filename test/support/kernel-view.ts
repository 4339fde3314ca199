/** What the kernel itself has of an agent's network, by the usual programs: a line for each thing. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { tableName } from "../../sandbox/network/nftables.js";
import type { TestAgent } from "./agent.js";

/** Of the agent's bridge, subnet, table, directories and ports alone: other tests run at the same time. */
export function kernelView({ slot, paths, cgroupRoot }: TestAgent, hostPorts: readonly number[]): string[] {
  const { bridge } = slot;
  const subnet = slot.subnet.replace(/0\/24$/, "");
  const ours = (line: string) => line.includes(subnet) || line.includes(bridge);
  return [
    // indexes are new for each interface
    ...lines("ip", "-o", "link")
      .map((line) => line.replace(/^\d+: /, "").replace(/@if\d+/, ""))
      .filter((line) => line.includes(` master ${bridge} `) || line.startsWith(`${bridge}:`) || line.includes("btb"))
      .filter((line) => !line.includes("btb") || aliasOf(line.split(":")[0] ?? "") === `berth ${bridge}`)
      // without ports a bridge has no carrier
      .map((line) => line.replace(/<.*?>|state \w+/g, "")),
    ...lines("ip", "-o", "address", "show", "dev", bridge).map((line) => `address ${line.replace(/^\d+: /, "")}`),
    ...lines("ip", "route", "show", "table", "all")
      .filter(ours)
      .map((line) => `route ${line.replace(/ linkdown/, "")}`),
    ...lines("ip", "rule").filter(ours),
    ...lines("nft", "list", "table", "inet", tableName(bridge))
      .map((line) => line.replace(/packets \d+ bytes \d+/, ""))
      // who has asked by a host port just now is forgotten after ten seconds
      .filter((line) => !line.includes(" expires ")),
    ...lines("ss", "-Hlntu").filter((line) => hostPorts.some((port) => line.includes(`:${port} `))),
    // what was led to a host port of UDP; connections of TCP that have ended stay for two minutes
    ...connections().filter(
      (line) => line.includes("udp") && hostPorts.some((port) => line.includes(`dport=${port} `)),
    ),
    ...readdirSync(paths.netns).map((name) => `namespace ${name}`),
    ...readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => line.includes(paths.base) || line.includes(cgroupRoot)),
  ];
}

function lines(program: string, ...args: string[]): string[] {
  return execFileSync(program, args, { encoding: "utf8", maxBuffer: 64 << 20 })
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

/** Empty where the kernel does not list them. */
function connections(): string[] {
  try {
    return readFileSync("/proc/net/nf_conntrack", "utf8").split("\n");
  } catch {
    return [];
  }
}

function aliasOf(name: string): string {
  try {
    return readFileSync(`/sys/class/net/${name}/ifalias`, "utf8").trim();
  } catch {
    return "";
  }
}
