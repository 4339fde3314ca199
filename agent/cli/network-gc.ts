import type { Command } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { printRemovals } from "./network-ls.js";

export function addTo(parent: Command): void {
  const command = parent
    .command("gc")
    .description(
      "try again now to take away what ended pods have left; list what stays, and exit with 1 when something does",
    );
  addClientOptions(command).action(collect);
}

async function collect(options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("CollectNetworkGarbage", {});
    if (options.json || answer.removals.length > 0) printRemovals(answer, options);
    if (answer.removals.length > 0) process.exitCode = 1;
  });
}
