/** Archives that want the importer to read, follow, remember or wait for what it should not (CVE-2023-25153 and its like). */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { type BuiltImage, buildImage, writeOciLayout } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { writeTar } from "../support/tar-writer.js";

const directory = mkdtempSync(join(tmpdir(), "berth-hostile-archive-"));
let service: TestImages;
let image: BuiltImage;

before(async () => {
  service = await openTestImages();
  image = buildImage({ layers: [[{ path: "a", content: "1" }]], compression: "none" });
});
after(async () => {
  await service.close();
  rmSync(directory, { recursive: true });
});

async function refuses(path: string, why: RegExp): Promise<void> {
  const begun = performance.now();
  await assert.rejects(service.images.import({ path }), (error: Error) => {
    assert.ok(error instanceof InvalidArgumentError, error.stack ?? "");
    assert.match(error.message, why);
    return true;
  });
  assert.ok(performance.now() - begun < 10_000);
  assert.deepEqual(await service.layerNames(), []);
}

test("links in a layout do not lead out of it, and what is no file is not opened", async () => {
  const secret = join(directory, "secret");
  writeFileSync(secret, JSON.stringify({ schemaVersion: 2, manifests: [] }));
  const layout = join(directory, "linked");
  mkdirSync(layout);
  symlinkSync(secret, join(layout, "index.json"));
  await refuses(layout, /neither an OCI layout .* nor/);

  const blobs = join(directory, "linked-blob");
  await writeOciLayout(blobs, image, "x:1");
  const layer = join(blobs, "blobs/sha256", image.layers[0]?.digest.slice("sha256:".length) ?? "");
  writeFileSync(join(directory, "layer"), readFileSync(layer));
  rmSync(layer);
  symlinkSync(join(directory, "layer"), layer);
  await refuses(blobs, /is a link that leads out of it/);

  const fifo = join(directory, "fifo");
  mkdirSync(fifo);
  execFileSync("mkfifo", [join(fifo, "index.json")]);
  await refuses(fifo, /neither an OCI layout .* nor/);
  await refuses(join(fifo, "index.json"), /neither a file nor a directory/);
  await refuses("/dev/zero", /neither a file nor a directory/);
});

test("names that climb stay inside", async () => {
  const path = join(directory, "climbing.tar");
  const manifest = [{ Config: "../../../../etc/passwd", Layers: ["../../../../etc/shadow"] }];
  writeFileSync(path, writeTar([{ path: "manifest.json", content: JSON.stringify(manifest) }]));
  await refuses(path, /names .*shadow, which is not in the archive/);
  const link = { path: "c.json", type: "symlink", link: "/etc/passwd" } as const;
  writeFileSync(
    path,
    writeTar([link, { path: "manifest.json", content: JSON.stringify([{ Config: "c.json", Layers: [] }]) }]),
  );
  await refuses(path, /has no member c.json/);
});

test("2 GB of metadata are refused without being read", async () => {
  for (const name of ["index.json", "manifest.json"]) {
    const layout = join(directory, `huge-${name}`);
    mkdirSync(layout);
    writeFileSync(join(layout, name), "{");
    truncateSync(join(layout, name), 2 * 1024 ** 3);
    const before = process.memoryUsage().rss;
    await refuses(layout, /is longer than 4194304 bytes/);
    assert.ok(process.memoryUsage().rss - before < 100e6);
  }
});

test("members, and names of members, are bounded", async () => {
  const path = join(directory, "names.tar");
  const pax = { comment: "x".repeat(1_000_000) };
  const entries = Array.from({ length: 70 }, (_, n) => ({ path: `${n}`, pax }));
  writeFileSync(path, writeTar(entries));
  await refuses(path, /more than 64 MiB of names/);
});

test("an import is over when whoever wanted it goes, and leaves nothing", async () => {
  const bomb = join(directory, "bomb.tar.gz");
  const member = gzipSync(Buffer.alloc(64 * 1024 ** 2));
  // 12 GB of zeros
  writeFileSync(bomb, Buffer.concat(Array.from({ length: 200 }, () => member)));
  const abort = new AbortController();
  const imported = service.images.import({ path: bomb, signal: abort.signal });
  setTimeout(() => abort.abort(), 100);
  await assert.rejects(imported, { kind: "CANCELLED" });
  assert.deepEqual(await service.layerNames(), []);
});
