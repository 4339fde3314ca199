import type { Command } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { printRemovals } from "./network-ls.js";

export function addTo(parent: Command): void {
  const command = parent
    .command("gc")
    .description(
      "try again now to take away what ended pods have left; list what stays, and exit with 1 when something does",
    );
  command.option(
    "--give-up <POD...>",
    "of these pods, do not try again what fails now, too: of a plugin that is not on the node any more",
  );
  addClientOptions(command).action(collect);
}

async function collect(options: ClientOptions & { giveUp?: string[] }): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("CollectNetworkGarbage", { give_up: options.giveUp ?? [] });
    if (options.json || answer.removals.length > 0) printRemovals(answer, options);
    if (answer.removals.length > 0) process.exitCode = 1;
  });
}
