import type { Command } from "commander";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, printable, printJson, printTable } from "./output.js";

export function addTo(parent: Command): void {
  const command = parent
    .command("inspect <POD>")
    .description("tell a pod's interfaces on both sides, its routes and host ports, and where packets are dropped");
  addClientOptions(command).action(inspect);
}

async function inspect(pod: string, options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("InspectNetwork", { pod_sandbox_id: pod });
    if (options.json) printJson(berth.v1.InspectNetworkResponse.toObject(answer, jsonOptions));
    else print(answer);
  });
}

function print({ provider, netns_path, interfaces, routes, rules, drops }: berth.v1.InspectNetworkResponse): void {
  process.stdout.write(`network ${provider}, namespace ${printable(netns_path)}\n\n`);
  printTable(
    ["SIDE", "INTERFACE", "STATE", "MTU", "MAC", "RECEIVED", "SENT", "ADDRESSES"],
    interfaces.map((link) => [
      link.side ?? "",
      link.bridge ? `${link.name} (${link.bridge})` : (link.name ?? ""),
      link.up ? "up" : "down",
      String(link.mtu ?? 0),
      link.mac ?? "",
      `${link.rx_bytes ?? 0} B, ${link.rx_packets ?? 0} packets`,
      `${link.tx_bytes ?? 0} B, ${link.tx_packets ?? 0} packets`,
      (link.addresses ?? []).join(" "),
    ]),
  );
  process.stdout.write("\n");
  printTable(
    ["ROUTE", "GATEWAY", "INTERFACE"],
    routes.map((route) => [route.destination ?? "", route.gateway ?? "", route.interface ?? ""]),
  );
  if (rules.length > 0) {
    process.stdout.write("\n");
    printTable(
      ["HOST PORT", "IN THE KERNEL"],
      rules.map(({ rule, installed }) => [rule ?? "", installed ? "yes" : "MISSING"]),
    );
  }
  process.stdout.write("\n");
  if (drops.length === 0) process.stdout.write("no packets were dropped\n");
  else
    printTable(
      ["DROPPED", "WHERE"],
      drops.map(({ where, packets }) => [String(packets ?? 0), where ?? ""]),
    );
}
