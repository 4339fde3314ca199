import type { Command } from "commander";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, megabytes, printJson, printTable, shortId } from "./output.js";

const { ListImagesResponse } = runtime.v1;

export function addTo(parent: Command): void {
  addClientOptions(parent.command("images").description("list images")).action(images);
}

async function images(options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("ListImages", {});
    if (options.json) return printJson(ListImagesResponse.toObject(answer, jsonOptions)["images"]);
    const rows = answer.images.flatMap(({ id, repo_tags, repo_digests, size }) => {
      // an image whose tag another one has taken is known by its digest
      const names = repo_tags?.length ? repo_tags : repo_digests?.length ? repo_digests : ["<none>"];
      return names.map((name) => [name, shortId(id ?? ""), size ? megabytes(size) : ""]);
    });
    printTable(["IMAGE", "IMAGE ID", "SIZE"], rows);
  });
}
