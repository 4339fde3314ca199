import type { Command } from "commander";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { NotKnownError } from "./failure.js";
import { printJson } from "./output.js";

export function addTo(parent: Command): void {
  const command = parent
    .command("inspect <IMAGE...>")
    .description("print all about images as a JSON list: names, layers, and the configuration as the image brought it");
  addClientOptions(command).action(inspect);
}

async function inspect(names: string[], options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const images: object[] = [];
    for (const name of names) images.push(await inspectImage(client, name));
    printJson(images);
  });
}

/** What ImageStatus tells in its verbose JSON. */
export interface ImageInfo {
  imageSpec: { history?: HistoryEntry[] };
  annotations: Record<string, string>;
  /** bottom first */
  layers: { chainID: string; diffID: string; bytes: number; inodes: number }[];
  pulledAt: string;
}

/** Of the OCI image specification. */
export interface HistoryEntry {
  created?: string;
  created_by?: string;
  comment?: string;
  empty_layer?: boolean;
}

/** @throws Error when there is no such image */
export async function askAbout(client: Client, name: string): Promise<{ image: runtime.v1.IImage; info: ImageInfo }> {
  const { image, info } = await client.call("ImageStatus", { image: { image: name }, verbose: true });
  if (!image) throw new NotKnownError(`there is no image "${name}"`);
  return { image, info: JSON.parse(info["info"] ?? "{}") as ImageInfo };
}

async function inspectImage(client: Client, name: string): Promise<object> {
  const { image, info } = await askAbout(client, name);
  return {
    id: image.id,
    repoTags: image.repo_tags,
    repoDigests: image.repo_digests,
    sizeBytes: image.size?.toNumber() ?? 0,
    pinned: image.pinned ?? false,
    pulledAt: info.pulledAt,
    annotations: info.annotations,
    layers: info.layers,
    configuration: info.imageSpec,
  };
}
