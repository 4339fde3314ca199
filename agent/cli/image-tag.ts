import type { Command } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { printJson } from "./output.js";

export function addTo(parent: Command): void {
  const command = parent.command("tag <IMAGE> <NAME...>").description("give an image further names");
  addClientOptions(command).action(tag);
}

async function tag(image: string, names: string[], options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const given: string[] = [];
    for (const name of names) given.push((await client.call("TagImage", { image, name })).name);
    if (options.json) return printJson({ names: given });
    for (const name of given) process.stdout.write(`${name}\n`);
  });
}
