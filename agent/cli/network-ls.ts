import type { Command } from "commander";
import Long from "long";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { ago, jsonOptions, printJson, printTable, shortId } from "./output.js";

export function addTo(parent: Command): void {
  const command = parent
    .command("ls")
    .alias("list")
    .description("list what of pods that have ended is still to be taken away, and why");
  addClientOptions(command).action(list);
}

async function list(options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    printRemovals(await client.call("ListNetworkRemovals", {}), options);
  });
}

/** For `network gc`, too. */
export function printRemovals(answer: berth.v1.ListNetworkRemovalsResponse, { json }: ClientOptions): void {
  if (json) {
    printJson(berth.v1.ListNetworkRemovalsResponse.toObject(answer, jsonOptions));
    return;
  }
  const rows = answer.removals.map(({ pod_sandbox_id, network, since, attempts, error }) => [
    shortId(pod_sandbox_id ?? ""),
    network ?? "",
    ago(since ?? Long.ZERO),
    String(attempts ?? 0),
    error ?? "",
  ]);
  printTable(["POD ID", "NETWORK", "SINCE", "ATTEMPTS", "ERROR"], rows);
}
