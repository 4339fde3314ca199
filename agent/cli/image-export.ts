import { resolve } from "node:path";
import type { Command } from "commander";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, printJson } from "./output.js";

interface ExportOptions extends ClientOptions {
  output: string;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("export <IMAGE...>")
    .description(
      "write images as an OCI layout. Layers are compressed anew, so that the digests are not those of the registry; they are printed",
    )
    .requiredOption("-o, --output <PATH>", 'a tar when it ends with ".tar", else a directory; nothing is there yet');
  addClientOptions(command).action(exportImages);
}

async function exportImages(images: string[], options: ExportOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("ExportImages", { images, path: resolve(options.output) });
    if (options.json) return printJson(berth.v1.ExportImagesResponse.toObject(answer, jsonOptions)["images"]);
    for (const { digest, names, id } of answer.images) {
      process.stdout.write(`${[digest, ...(names?.length ? names : [id])].join(" ")}\n`);
    }
  });
}
