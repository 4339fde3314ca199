/**
 * The agent is killed with SIGKILL again and again amid pulls and removals, with each storage driver. After each start the
 * store is compared with the disk, by `check` and by hand: a layer is complete or absent, an image has all of its layers,
 * nothing else is there.
 * BERTH_KILLS sets how often.
 */
import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { chainIdsOf } from "../../agent/images/digest.js";
import type { StorageDriverName } from "../../sandbox/rootfs/drivers/driver.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type FileSystemKind, lacksStorage, makeFileSystem, type TestFileSystem } from "../support/file-systems.js";
import { type BuiltImage, buildImage, digestOf } from "../support/image-builder.js";
import { type LyingRegistry, startLyingRegistry } from "../support/lying-registry.js";
import type { TarEntry } from "../support/tar-writer.js";

const cases: { driver: StorageDriverName; kills: number; on?: FileSystemKind }[] = [
  { driver: "overlay", kills: 6 },
  { driver: "copy", kills: 4 },
  { driver: "btrfs", kills: 4, on: "btrfs" },
  { driver: "devmapper", kills: 4, on: "ext4" },
];
const filesInLayer = 60;
const layerNames = [
  ["base", "second", "own-1", "top-1"],
  ["base", "second", "own-2"],
  ["base", "own-3", "top-3", "end-3"],
] as const;

let images: BuiltImage[];
let registries: LyingRegistry[];
/** what each layer has: file → size */
const contents = new Map<string, Map<string, number>>();
/** and with all that are below it */
const wholeContents = new Map<string, Map<string, number>>();

function layer(name: string): TarEntry[] {
  return Array.from({ length: filesInLayer }, (_, file) => ({
    path: `${name}/${file}`,
    content: Buffer.alloc(1 + file * 500, `${name}${file}`),
  }));
}

before(async () => {
  images = layerNames.map((names) => buildImage({ layers: names.map(layer) }));
  for (const [index, image] of images.entries()) {
    let below: [string, number][] = [];
    for (const [position, chainId] of chainIdsOf(image.tars.map(digestOf)).entries()) {
      const entries = layer(layerNames[index]?.[position] ?? "");
      const own = entries.map(({ path, content }): [string, number] => [path, content?.length ?? 0]);
      below = [...below, ...own];
      contents.set(chainId, new Map(own));
      wholeContents.set(chainId, new Map(below));
    }
  }
  registries = await Promise.all(images.map((image) => startLyingRegistry(image)));
});

after(async () => {
  for (const registry of registries) await registry.stop();
});

const nameOf = (index: number): string => `${registries[index]?.host}/x/y:1`;

async function filesBelow(directory: string): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const name of await readdir(directory, { recursive: true })) {
    const status = await stat(join(directory, name));
    if (status.isFile()) found.set(name, status.size);
  }
  return found;
}

for (const { driver, kills: usual, on } of cases) {
  describe(`storage driver ${driver}`, { skip: (on && lacksStorage(driver, on)) ?? false }, () => {
    const kills = Number(process.env["BERTH_KILLS"] ?? usual);
    let fileSystem: TestFileSystem | undefined;
    let agent: TestAgent;
    let root: string;

    before(async () => {
      fileSystem = on && makeFileSystem(on, 400);
      const flags = { "storage-driver": driver, ...(fileSystem && { root: join(fileSystem.path, "root") }) };
      agent = await startAgent({ flags });
      root = flags.root ?? agent.paths.root;
    });
    after(async () => {
      await agent.stop();
      await fileSystem?.close();
    });

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

    /** With nothing under way: what is on the disk is what ListImages tells, whole. */
    async function compareWithDisk(): Promise<void> {
      const { problems } = await agent.client.call("CheckImages", {});
      assert.deepEqual(problems, []);
      const { images: listed } = await agent.client.call("ListImages", {});
      const needed = new Set(
        listed.flatMap(({ id }) => chainIdsOf(images.find((image) => image.id === id)?.tars.map(digestOf) ?? [])),
      );
      const expected = driver === "overlay" ? contents : wholeContents;
      const layers = join(root, "layers");
      // what the start found goes in the background
      let names = await readdir(layers);
      for (let tries = 0; tries < 2000 && names.some((name) => name.startsWith(".")); tries++) {
        await sleep(10);
        names = await readdir(layers);
      }
      assert.deepEqual(names.sort(), [...needed].map((chainId) => chainId.slice(7, 39)).sort());
      // devmapper's are not mounted; check has read them
      for (const chainId of driver === "devmapper" ? [] : needed) {
        assert.deepEqual(await filesBelow(join(layers, chainId.slice(7, 39), "fs")), expected.get(chainId));
      }
      const records = await readdir(join(root, "images"));
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
      const note = await readFile(join(root, "storage-driver"), "utf8");
      assert.equal(note, `${driver}\n`);
    });
  });
}
