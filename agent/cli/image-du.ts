import type { Command } from "commander";
import Long from "long";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, megabytes, printJson, printTable, shortId } from "./output.js";

interface Options extends ClientOptions {
  layers?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("du")
    .description("tell what images take on the disk; UNIQUE is what no other image has")
    .option("--layers", "by layer");
  addClientOptions(command).action(diskUsage);
}

async function diskUsage(options: Options): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("ImageDiskUsage", {});
    if (options.json) return printJson(berth.v1.ImageDiskUsageResponse.toObject(answer, jsonOptions));
    if (options.layers) printLayers(answer);
    else printImages(answer);
    const total = answer.layers.reduce((sum, { bytes }) => sum.add(bytes ?? 0), Long.UZERO);
    process.stdout.write(
      `\n${answer.layers.length} layers take ${megabytes(total)}; containers have written ${megabytes(answer.written_bytes)}\n`,
    );
  });
}

function printImages({ images }: berth.v1.ImageDiskUsageResponse): void {
  const rows = [...images].sort(bySize).map(({ id, names, bytes, unique_bytes, containers }) => {
    const [size, unique] = [bytes ?? Long.UZERO, unique_bytes ?? Long.UZERO];
    const name = names?.[0] ?? "<none>";
    return [name, shortId(id ?? ""), ...[size, unique, size.sub(unique)].map(megabytes), String(containers)];
  });
  printTable(["IMAGE", "IMAGE ID", "SIZE", "UNIQUE", "SHARED", "CONTAINERS"], rows);
}

function printLayers({ layers }: berth.v1.ImageDiskUsageResponse): void {
  const rows = [...layers].sort(bySize).map(({ chain_id, bytes, inodes, images, containers }) => {
    const size = megabytes(bytes ?? Long.UZERO);
    return [shortId(chain_id ?? ""), size, String(inodes), String(images?.length ?? 0), String(containers)];
  });
  printTable(["LAYER", "SIZE", "FILES", "IMAGES", "CONTAINERS"], rows);
}

function bySize(a: { bytes?: Long | null }, b: { bytes?: Long | null }): number {
  return (b.bytes ?? Long.UZERO).compare(a.bytes ?? Long.UZERO);
}
