import { resolve } from "node:path";
import type { Command } from "commander";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, printJson } from "./output.js";

interface ImportOptions extends ClientOptions {
  name?: string;
  rootfs?: boolean;
  change: string[];
}

export function addTo(parent: Command): void {
  const command = parent
    .command("import <PATH>")
    .description(
      "take the images of an OCI layout or of a `docker save` archive, a directory or a tar, gzip, zstd or neither",
    )
    .option("--name <NAME>", "what the image is to be called; otherwise as the archive says")
    .option("--rootfs", "PATH is the tar of a root file system, and becomes an image of one layer")
    .option(
      "--change <INSTRUCTION>",
      'with --rootfs: of its configuration, as in a Dockerfile ("CMD sh", "ENV A=b"); may be given several times',
      (change: string, before: string[]) => [...before, change],
      [],
    );
  addClientOptions(command).action(importImage);
}

async function importImage(path: string, options: ImportOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("ImportImage", {
      path: resolve(path),
      ...(options.name !== undefined && { name: options.name }),
      ...(options.rootfs && { root_filesystem: true }),
      changes: options.change,
    });
    if (options.json) return printJson(berth.v1.ImportImageResponse.toObject(answer, jsonOptions)["images"]);
    for (const { id, names } of answer.images) process.stdout.write(`${[id, ...(names ?? [])].join(" ")}\n`);
  });
}
