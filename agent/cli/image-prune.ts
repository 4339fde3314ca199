import type { Command } from "commander";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, megabytes, printJson } from "./output.js";

interface PruneOptions extends ClientOptions {
  all?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("prune")
    .description("remove the images that no container uses and that have no tag; pinned ones stay")
    .option("-a, --all", "also those that have one");
  addClientOptions(command).action(prune);
}

async function prune(options: PruneOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("PruneImages", { all: options.all ?? false });
    if (options.json) return printJson(berth.v1.PruneImagesResponse.toObject(answer, jsonOptions));
    for (const { id, names } of answer.images) process.stdout.write(`${[id, ...(names ?? [])].join(" ")}\n`);
    process.stdout.write(`${answer.images.length} images removed, ${megabytes(answer.freed_bytes)} freed\n`);
  });
}
