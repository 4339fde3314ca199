/**
 * `npm run bench -- image`: pulls from a registry on loopback, beside Debian's containerd with --with-containerd. Each round
 * pulls an image that was not there before, and nothing is removed between rounds: on ext4 without a journal, making files is
 * slow for minutes after many were removed.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../agent/cli/client.js";
import { native, programs } from "../../native/binding.js";
import type { TestAgent } from "../support/agent.js";
import { type BuiltImage, buildImage, pushImage } from "../support/image-builder.js";
import type { TestRegistry } from "../support/registry.js";
import type { TarEntry } from "../support/tar-writer.js";
import { type Figure, median, timed } from "./figures.js";
import { manyFilesLayer } from "./images.js";

const rounds = 3;
const mega = 1_000_000;
const manyImages = 500;

const targets: Record<string, Omit<Figure, "name" | "value">> = {
  "6 layers, 6,000 files, 27 MB compressed": { unit: "s", target: 0.5 },
  "4 layers, 100 MB": { unit: "s", target: 0.4 },
  "10 layers, 1 GB": { unit: "s" },
  "  share of what the slowest of these allows": { unit: "%", target: 90, atLeast: true },
  "  sha256 alone, two at a time": { unit: "s" },
  "  inflate alone, two at a time": { unit: "s" },
  "  GNU tar alone, two at a time": { unit: "s" },
  "  agent's memory, at most": { unit: "MiB", target: 150 },
  "  longest answer to Version meanwhile": { unit: "ms", target: 20 },
  "  disk, more at most than in the end": { unit: "MiB", target: 64 },
  "ListImages, 500 images": { unit: "ms", target: 3 },
};

export interface PullImages {
  registry: TestRegistry;
  manyFiles: string[];
  hundred: string[];
  gigabyte: string;
  /** where the layers of that lie, compressed (N.gz) and not (N.tar) */
  layers: { directory: string; count: number };
  many: string[];
}

export async function pushPullImages(registry: TestRegistry): Promise<PullImages> {
  const push = async (name: string, image: BuiltImage): Promise<string> => {
    await pushImage(registry.url, name, "1", image);
    return `${registry.host}/${name}:1`;
  };
  const manyFiles: string[] = [];
  const hundred: string[] = [];
  for (let round = 0; round < rounds; round++) {
    const layers = Array.from({ length: 6 }, (_, n) => manyFilesLayer(n, `round ${round}`));
    manyFiles.push(await push(`files-${round}`, buildImage({ layers })));
    hundred.push(await push(`hundred-${round}`, buildImage({ layers: largeLayers(4, 25) })));
  }
  const large = buildImage({ layers: largeLayers(10, 100) });
  const directory = mkdtempSync("/tmp/bench-layers-");
  for (const [i, layer] of large.layers.entries()) {
    writeFileSync(join(directory, `${i}.gz`), layer.bytes);
    writeFileSync(join(directory, `${i}.tar`), large.tars[i] ?? "");
  }
  const gigabyte = await push("gigabyte", large);
  const many: string[] = [];
  for (let i = 0; i < manyImages; i++) {
    const image = buildImage({ layers: [[{ path: "f" }]], config: { Labels: { number: String(i) } } });
    many.push(await push(`many-${i}`, image));
  }
  return { registry, manyFiles, hundred, gigabyte, layers: { directory, count: large.layers.length }, many };
}

/** Of files of a megabyte, half of which gzip cannot make smaller. */
function largeLayers(count: number, megabytes: number): TarEntry[][] {
  const dull = Buffer.from("all work and no play ".repeat(mega / 2 / 21 + 1)).subarray(0, mega / 2);
  return Array.from({ length: count }, (_, layer) =>
    Array.from({ length: megabytes }, (_, file) => ({
      path: `layer${layer}/f${file}`,
      content: Buffer.concat([randomBytes(mega / 2), dull]),
    })),
  );
}

export type PullReport = (name: string, value: number) => void | Promise<void>;

/** What can be told of any runtime. */
export async function measurePulls(client: Client, images: PullImages, report: PullReport): Promise<void> {
  const pull = (image: string) => timed(() => client.call("PullImage", { image: { image } }));
  const all = async (list: readonly string[]): Promise<number> => {
    const times: number[] = [];
    for (const image of list) times.push(await pull(image));
    return median(times) / 1000;
  };
  await pull(images.many[0] ?? "");
  await report("6 layers, 6,000 files, 27 MB compressed", await all(images.manyFiles));
  await report("4 layers, 100 MB", await all(images.hundred));
  await report("10 layers, 1 GB", (await pull(images.gigabyte)) / 1000);
  for (const image of images.many) await pull(image);
  const lists: number[] = [];
  for (let i = 0; i < 20; i++) lists.push(await timed(() => client.call("ListImages", {})));
  await report("ListImages, 500 images", median(lists));
}

/** With what only Berth's own side knows. */
export async function measureOwnPulls(agent: TestAgent, images: PullImages): Promise<Figure[]> {
  const figures: Figure[] = [];
  const report = (name: string, value: number): void =>
    void figures.push({ name, value, ...(targets[name] ?? { unit: "" }) });
  const floors = await floorsOf(images);
  const watch = watchAgent(agent);
  await measurePulls(agent.client, images, async (name, value) => {
    if (name === "10 layers, 1 GB") await watch.stop();
    else if (name === "4 layers, 100 MB") watch.start();
    report(name, value);
    if (name !== "10 layers, 1 GB") return;
    report("  share of what the slowest of these allows", (Math.max(...floors.values()) / value) * 100);
    for (const [floor, seconds] of floors) report(floor, seconds);
    const seen = watch.seen();
    report("  agent's memory, at most", seen.memoryMiB);
    report("  longest answer to Version meanwhile", seen.answerMs);
    report("  disk, more at most than in the end", seen.diskMiB);
  });
  return figures;
}

/** What the parts of an unpacking take, each alone, on the same layers. */
async function floorsOf({ layers }: PullImages): Promise<Map<string, number>> {
  const each = (work: (index: number) => Promise<void>): Promise<number> =>
    timed(async () => {
      let next = 0;
      const worker = async (): Promise<void> => {
        while (next < layers.count) await work(next++);
      };
      await Promise.all([worker(), worker()]);
    });
  const at = (name: string): string => join(layers.directory, name);
  const run = async (program: string, args: string[], input: string): Promise<void> => {
    const fd = openSync(input, "r");
    const child = spawn(program, args, { stdio: [fd, "ignore", "inherit"] });
    const [code] = await once(child, "exit");
    closeSync(fd);
    if (code !== 0) throw new Error(`${program} ended with ${code}`);
  };
  mkdirSync(at("empty"));
  const inflate = ["decompress", "--directory", at("empty"), "--limit-bytes", String(2 ** 40)];
  const unpack = async (index: number): Promise<void> => {
    mkdirSync(at(`tree-${index}`));
    await run("tar", ["-x", "-C", at(`tree-${index}`)], at(`${index}.tar`));
  };
  const floors: [string, (index: number) => Promise<void>][] = [
    ["  sha256 alone, two at a time", (index) => run("openssl", ["dgst", "-sha256"], at(`${index}.tar`))],
    ["  inflate alone, two at a time", (index) => run(programs.archive, inflate, at(`${index}.gz`))],
    ["  GNU tar alone, two at a time", unpack],
  ];
  const seconds = new Map<string, number>();
  for (const [name, work] of floors) seconds.set(name, (await each(work)) / 1000);
  return seconds;
}

interface Seen {
  memoryMiB: number;
  answerMs: number;
  diskMiB: number;
}

/** An agent's memory, its layers' space and how long it lets callers wait, looked at again and again. */
function watchAgent(agent: TestAgent): { start(): void; stop(): Promise<void>; seen(): Seen } {
  const seen: Seen = { memoryMiB: 0, answerMs: 0, diskMiB: 0 };
  let running = false;
  let mostBytes = 0;
  let lastBytes = 0;
  const used = async (): Promise<number> => {
    const walk = native.openUsageWalk(join(agent.paths.root, "layers"));
    for (;;) {
      const step = await walk.step(1_000);
      if (step.done) return step.bytes;
    }
  };
  const disk = async (): Promise<void> => {
    while (running) {
      mostBytes = Math.max(mostBytes, await used());
      await sleep(250);
    }
  };
  const answers = async (): Promise<void> => {
    while (running) {
      seen.answerMs = Math.max(seen.answerMs, await timed(() => agent.client.call("Version", {})));
      const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${agent.pid}/status`, "utf8"))?.[1];
      seen.memoryMiB = Math.max(seen.memoryMiB, Number(rss) / 1024);
      await sleep(5);
    }
  };
  return {
    start() {
      running = true;
      for (const look of [disk, answers]) look().catch(() => undefined);
    },
    async stop() {
      running = false;
      lastBytes = await used();
    },
    seen: () => ({ ...seen, diskMiB: (mostBytes - lastBytes) / 1024 ** 2 }),
  };
}

export function removePullImages({ layers }: PullImages): void {
  rmSync(layers.directory, { recursive: true, force: true });
}
