import type { Command } from "commander";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, megabytes, printJson, printTable, shortId } from "./output.js";

const { ListImagesResponse } = runtime.v1;

interface ImagesOptions extends ClientOptions {
  quiet?: boolean;
}

/** `berth images`, and `berth image list` for those who look there. */
export function addTo(parent: Command): void {
  const command =
    parent.name() === "image" ? parent.command("list [IMAGE]").alias("ls") : parent.command("images [IMAGE]");
  command.description("list images, or the one that is named").option("-q, --quiet", "print ids only");
  addClientOptions(command).action(images);
}

async function images(name: string | undefined, options: ImagesOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("ListImages", name === undefined ? {} : { filter: { image: { image: name } } });
    if (options.quiet) {
      for (const { id } of answer.images) process.stdout.write(`${id}\n`);
      return;
    }
    if (options.json) return printJson(ListImagesResponse.toObject(answer, jsonOptions)["images"]);
    const rows = answer.images.flatMap(({ id, repo_tags, repo_digests, size }) => {
      // an image whose tag another one has taken is known by its digest
      const names = repo_tags?.length ? repo_tags : repo_digests?.length ? repo_digests : ["<none>"];
      return names.map((name) => [name, shortId(id ?? ""), size ? megabytes(size) : ""]);
    });
    printTable(["IMAGE", "IMAGE ID", "SIZE"], rows);
  });
}
