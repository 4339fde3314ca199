/** An image's layers: in the registry, and on disk after the pull. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "../support/image-builder.js";
import { mebibytes } from "./screen.js";
import type { Demo } from "./setup.js";

const manifestType = "application/vnd.oci.image.manifest.v1+json";

interface Manifest {
  config: { digest: string };
  layers: { digest: string; size: number }[];
}

export async function showImage(demo: Demo): Promise<void> {
  const { agent, imageName, image, screen } = demo;
  screen.title(
    "The image",
    "An image is a list of layers and a configuration. A layer is a tar archive: the files that it adds to the layers " +
      "below it. Everything is named by its SHA-256 digest, so whoever has the name can check the content.",
    "This image was built a moment ago from Debian's busybox and pushed to Debian's docker-registry on loopback. " +
      "Berth now pulls it, checks every digest, and unpacks each layer into a directory of its own.",
  );
  screen.say(
    "Lines with $ crictl are what you would type for the call that the demo has just made on the agent's socket. " +
      "Of the files that they name, the parts that matter are shown. " +
      "What stands after ← is the command or the kernel's file that the value was read from.",
  );
  screen.lines([`export CONTAINER_RUNTIME_ENDPOINT=${agent.socket}`]);
  const begun = performance.now();
  const { image_ref: id } = await agent.client.call("PullImage", { image: { image: imageName } });
  const tookMs = performance.now() - begun;
  screen.crictl(`pull ${imageName}`, `${id}\n(${tookMs.toFixed(0)} ms)`);

  const manifest = await fetchManifest(manifestUrl(demo));
  const chainIds = chainIdsOf(image.tars.map(digestOf));
  const directories = chainIds.map((chainId) => join("layers", chainId.slice("sha256:".length).slice(0, 32), "fs"));
  const contents = directories.map((directory) => entries(join(agent.paths.root, directory)));
  screen.say(`The layers, the bottom one first. The directories are below ${agent.paths.root}.`);
  screen.table(
    ["layer", "digest", "packed", "directory", "has in it"],
    manifest.layers.map(({ digest, size }, index) => [
      String(index + 1),
      digest.slice(0, "sha256:".length + 12),
      size < 100_000 ? `${size} B` : mebibytes(size),
      directories[index] ?? "",
      few(contents[index] ?? []),
    ]),
    `curl -H 'Accept: ${manifestType}' ${manifestUrl(demo)} ; ls DIRECTORY`,
  );
  screen.say(
    "A directory is named for the layer's chain id: a digest over this layer and all below it, because a layer means " +
      'something only on top of the right ones. chain(n) = SHA-256 of "chain(n-1) diff(n)", where diff(n) is the digest ' +
      "of the layer's tar before compression.",
  );
  screen.values(chainIds.map((chainId, index) => [`chain(${index + 1})`, chainId]));

  const { image: found, info } = await agent.client.call("ImageStatus", { image: { image: imageName }, verbose: true });
  screen.crictl(`inspecti ${imageName}`);
  screen.check("the registry's manifest lists four layers", manifest.layers.length === 4);
  screen.check(
    "the image's id is the digest of its configuration",
    id === manifest.config.digest && found?.id === manifest.config.digest,
  );
  screen.check(
    "Berth knows the image by the same last chain id as was computed here",
    (JSON.parse(info["info"] ?? "{}") as { chainID?: string }).chainID === chainIds.at(-1),
  );
  screen.check(
    "each layer is on disk, in the directory named for its chain id",
    contents.every((names) => names !== undefined && names.length > 0),
  );
}

function manifestUrl({ registry }: Demo): string {
  return `${registry.url}/v2/demo/four-layers/manifests/1`;
}

async function fetchManifest(url: string): Promise<Manifest> {
  const response = await fetch(url, { headers: { accept: manifestType } });
  return (await response.json()) as Manifest;
}

/** OCI image specification, "Layer ChainID". */
function chainIdsOf(diffIds: string[]): string[] {
  const chainIds: string[] = [];
  for (const diffId of diffIds) {
    const below = chainIds.at(-1);
    chainIds.push(below === undefined ? diffId : digestOf(Buffer.from(`${below} ${diffId}`)));
  }
  return chainIds;
}

function few(names: string[]): string {
  return names.length > 6 ? `${names.slice(0, 5).join(" ")} and ${names.length - 5} more` : names.join(" ");
}

function entries(directory: string): string[] | undefined {
  try {
    return readdirSync(directory).sort();
  } catch {
    return undefined;
  }
}
