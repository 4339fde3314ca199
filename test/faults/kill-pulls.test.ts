/**
 * The agent is killed with SIGKILL again and again amid pulls and removals. After each start the store is compared with the
 * disk, by `check` and by hand: a layer is complete or absent, an image has all of its layers, nothing else is there.
 * BERTH_KILLS sets how often.
 */
import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { chainIdsOf } from "../../agent/images/digest.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type BuiltImage, buildImage, digestOf } from "../support/image-builder.js";
import { type LyingRegistry, startLyingRegistry } from "../support/lying-registry.js";
import type { TarEntry } from "../support/tar-writer.js";

const kills = Number(process.env["BERTH_KILLS"] ?? 10);
const filesInLayer = 60;
const layerNames = [
  ["base", "second", "own-1", "top-1"],
  ["base", "second", "own-2"],
  ["base", "own-3", "top-3", "end-3"],
] as const;

let agent: TestAgent;
let images: BuiltImage[];
let registries: LyingRegistry[];
/** what each layer's directory has to hold: file → size */
const contents = new Map<string, Map<string, number>>();

function layer(name: string): TarEntry[] {
  return Array.from({ length: filesInLayer }, (_, file) => ({
    path: `${name}/${file}`,
    content: Buffer.alloc(1 + file * 500, `${name}${file}`),
  }));
}

before(async () => {
  agent = await startAgent();
  images = layerNames.map((names) => buildImage({ layers: names.map(layer) }));
  for (const [index, image] of images.entries()) {
    for (const [position, chainId] of chainIdsOf(image.tars.map(digestOf)).entries()) {
      const entries = layer(layerNames[index]?.[position] ?? "");
      contents.set(chainId, new Map(entries.map(({ path, content }) => [path, content?.length ?? 0])));
    }
  }
  registries = await Promise.all(images.map((image) => startLyingRegistry(image)));
});

after(async () => {
  await agent.stop();
  for (const registry of registries) await registry.stop();
});

const nameOf = (index: number): string => `${registries[index]?.host}/x/y:1`;

/** Pulls and removes until it is told to stop; a call that the kill cut off is nothing to it. */
async function churn(index: number, until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    try {
      await agent.client.call("PullImage", { image: { image: nameOf(index) } });
      await sleep(20 * index);
      await agent.client.call("RemoveImage", { image: { image: nameOf(index) } });
    } catch {
      // between the kill and the next start there is nobody to call
      await sleep(10);
    }
  }
}

async function filesBelow(directory: string): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const name of await readdir(directory, { recursive: true })) {
    const status = await stat(join(directory, name));
    if (status.isFile()) found.set(name, status.size);
  }
  return found;
}

/** With nothing under way: what is on the disk is what ListImages tells, whole. */
async function compareWithDisk(): Promise<void> {
  const { problems } = await agent.client.call("CheckImages", {});
  assert.deepEqual(problems, []);
  const { images: listed } = await agent.client.call("ListImages", {});
  const needed = new Set(
    listed.flatMap(({ id }) => chainIdsOf(images.find((image) => image.id === id)?.tars.map(digestOf) ?? [])),
  );
  const layers = join(agent.paths.root, "layers");
  // what the start found goes in the background
  let names = await readdir(layers);
  for (let tries = 0; tries < 500 && names.some((name) => name.startsWith(".")); tries++) {
    await sleep(10);
    names = await readdir(layers);
  }
  assert.deepEqual(names.sort(), [...needed].map((chainId) => chainId.slice(7, 39)).sort());
  for (const chainId of needed) {
    assert.deepEqual(await filesBelow(join(layers, chainId.slice(7, 39), "fs")), contents.get(chainId));
  }
  const records = await readdir(join(agent.paths.root, "images"));
  assert.deepEqual(records.sort(), listed.map(({ id }) => `${id?.slice(7)}.json`).sort());
}

test(`${kills} kills amid pulls and removals leave a store that is whole`, async () => {
  for (let kill = 0; kill < kills; kill++) {
    const stop = new AbortController();
    const running = images.map((_, index) => churn(index, stop.signal));
    // from the first bytes to the middle of later pulls, each time at another point
    await sleep((kill * 67) % 400);
    await agent.kill9();
    stop.abort();
    await agent.restart();
    await Promise.all(running);
    await compareWithDisk();
  }
});

test("all images can be pulled after that", async () => {
  for (const [index, image] of images.entries()) {
    const { image_ref } = await agent.client.call("PullImage", { image: { image: nameOf(index) } });
    assert.equal(image_ref, image.id);
  }
  await compareWithDisk();
  const note = await readFile(join(agent.paths.root, "storage-driver"), "utf8");
  assert.equal(note, "overlay\n");
});
