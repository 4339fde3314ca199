import type { Command } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { NotKnownError } from "./failure.js";
import { printJson } from "./output.js";

export function addTo(parent: Command): void {
  addClientOptions(
    parent
      .command("rm <IMAGE...>")
      .alias("remove")
      .description("remove images, by name or id, with all names that they have"),
  ).action(remove);
}

async function remove(names: string[], options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const removed: string[] = [];
    for (const image of names) {
      // RemoveImage succeeds for what is not there; a person who mistyped wants to know
      const { image: found } = await client.call("ImageStatus", { image: { image } });
      if (!found) throw new NotKnownError(`there is no image "${image}"`);
      await client.call("RemoveImage", { image: { image } });
      removed.push(found.id ?? image);
      if (!options.json) process.stdout.write(`${found.id}\n`);
    }
    if (options.json) printJson({ removed });
  });
}
