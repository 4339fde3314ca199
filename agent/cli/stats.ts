import { type Command, Option } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { NotKnownError } from "./failure.js";
import { printJson, printTable } from "./output.js";
import { parseInterval, type SortKey, sorted, sortKeys, type Usage, usageHeader, usageRow, usages } from "./usage.js";

interface StatsOptions extends ClientOptions {
  pods?: boolean;
  interval: number;
  sort: SortKey;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("stats")
    .description("tell what containers use: processor, memory, swap, what they have written, pressure")
    .argument("[ID...]", "beginnings of ids of containers or, with --pods, of pods; all when there is none")
    .option("--pods", "pods as a whole")
    .option(
      "--interval <seconds>",
      "the time between the two readings that the processor's rate is made from",
      parseInterval,
      1,
    )
    .addOption(new Option("--sort <column>", "what the list is ordered by").choices(sortKeys).default("name"));
  addClientOptions(command).action(stats);
}

async function stats(ids: string[], options: StatsOptions): Promise<void> {
  await withClient(options, async (client) => {
    for await (const all of usages(client, options.interval * 1000, options.pods ?? false)) {
      const told = sorted(matching(all, ids, options.pods ?? false), options.sort);
      if (options.json) printJson(told);
      else printTable(usageHeader, told.map(usageRow));
      return;
    }
  });
}

function matching(all: readonly Usage[], ids: readonly string[], pods: boolean): Usage[] {
  const missing = ids.find((id) => !all.some((usage) => usage.id.startsWith(id)));
  if (missing !== undefined) {
    throw new NotKnownError(`no ${pods ? "ready pod" : "running container"} has an id that begins with "${missing}"`);
  }
  return ids.length === 0 ? [...all] : all.filter((usage) => ids.some((id) => usage.id.startsWith(id)));
}
