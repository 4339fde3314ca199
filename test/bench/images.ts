/** What the benchmarks pull. */
import { createHash } from "node:crypto";
import { buildBusyboxImage, buildImage, pushImage } from "../support/image-builder.js";
import type { TestRegistry } from "../support/registry.js";
import type { TarEntry } from "../support/tar-writer.js";

export interface BenchImages {
  busybox: string;
  manyFiles: string;
}

/** Pushes a small busybox, and an image of 6 layers with 1,000 files each, about 27 MB compressed. */
export async function pushBenchImages(registry: TestRegistry): Promise<BenchImages> {
  await pushImage(registry.url, "busybox", "1", await buildBusyboxImage());
  await pushImage(
    registry.url,
    "many-files",
    "1",
    buildImage({ layers: Array.from({ length: 6 }, (_, n) => manyFilesLayer(n)) }),
  );
  return { busybox: `${registry.host}/busybox:1`, manyFiles: `${registry.host}/many-files:1` };
}

/** 1,000 files. @param seed other files for another one */
export function manyFilesLayer(number: number, seed = ""): TarEntry[] {
  return Array.from({ length: 1000 }, (_, file) => ({
    path: `layer${number}/d${file % 40}/f${file}`,
    content: content(`${seed}${number}/${file}`),
  }));
}

/** 9 KiB, half of which gzip cannot make smaller; the same on every run. */
function content(seed: string): Buffer {
  const parts: Buffer[] = [];
  for (let i = 0; i < 140; i++) parts.push(createHash("sha256").update(`${seed}/${i}`).digest());
  return Buffer.concat([...parts, Buffer.from("all work and no play ".repeat(220))]);
}
