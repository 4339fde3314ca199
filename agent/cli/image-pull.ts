import type { Command } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { printJson } from "./output.js";

export function addTo(parent: Command): void {
  addClientOptions(parent.command("pull <IMAGE>").description("pull an image from its registry")).action(pull);
}

async function pull(image: string, options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const { image_ref } = await client.call("PullImage", { image: { image } });
    if (options.json) printJson({ image_ref });
    else process.stdout.write(`${image_ref}\n`);
  });
}
