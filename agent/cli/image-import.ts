import { resolve } from "node:path";
import type { Command } from "commander";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, printJson } from "./output.js";

export function addTo(parent: Command): void {
  const command = parent
    .command("import <PATH>")
    .description("take the images of an OCI layout (a directory or a tar archive) or of a `docker save` archive");
  addClientOptions(command).action(importImage);
}

async function importImage(path: string, options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("ImportImage", { path: resolve(path) });
    if (options.json) return printJson(berth.v1.ImportImageResponse.toObject(answer, jsonOptions)["images"]);
    for (const { id, names } of answer.images) process.stdout.write(`${[id, ...(names ?? [])].join(" ")}\n`);
  });
}
