import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { InvalidArgumentError, NotFoundError } from "../../sandbox/errors.js";
import {
  type BuiltImage,
  buildBusyboxImage,
  dockerArchive,
  ociArchive,
  writeOciLayout,
} from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { writeTar } from "../support/tar-writer.js";

const run = promisify(execFile);
const name = "docker.io/library/busybox:imported";

describe("importing images from files", () => {
  let directory: string;
  let service: TestImages;
  let image: BuiltImage;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "berth-import-"));
    service = await openTestImages();
    image = await buildBusyboxImage();
  });
  after(async () => {
    await service.close();
    await rm(directory, { recursive: true, force: true });
  });

  const importAndRemove = async (path: string, tag: string | undefined): Promise<void> => {
    const [record, ...more] = await service.images.import(path);
    assert.equal(more.length, 0);
    assert.equal(record?.id, image.id);
    assert.deepEqual(record?.repoTags, tag === undefined ? [] : [tag]);
    const base = service.layers.path(record?.layers[0] as string);
    assert.deepEqual(await readFile(join(base, "bin/busybox")), await readFile("/bin/busybox"));
    if (tag !== undefined) assert.equal(service.images.store.find(tag)?.id, image.id);
    await service.images.store.remove(image.id);
    assert.deepEqual(await service.layerNames(), []);
  };

  it("takes an OCI layout", async () => {
    await writeOciLayout(join(directory, "layout"), image, "busybox:imported");
    await importAndRemove(join(directory, "layout"), name);
  });

  it("takes a layout whose image has no name", async () => {
    await writeOciLayout(join(directory, "nameless"), image, "latest");
    await importAndRemove(join(directory, "nameless"), undefined);
  });

  it("takes an OCI archive", async () => {
    await writeFile(join(directory, "oci.tar"), ociArchive(image, "busybox:imported"));
    await importAndRemove(join(directory, "oci.tar"), name);
  });

  it("takes a docker save archive", async () => {
    await writeFile(join(directory, "docker.tar"), dockerArchive(image, ["busybox:imported"]));
    await importAndRemove(join(directory, "docker.tar"), name);
  });

  const noSkopeo = existsSync("/usr/bin/skopeo") ? false : "skopeo is not installed";
  it("takes what skopeo writes as a docker archive", { skip: noSkopeo }, async () => {
    await writeOciLayout(join(directory, "for-skopeo"), image, "x");
    const target = join(directory, "skopeo.tar");
    await run("skopeo", ["copy", "-q", `oci:${directory}/for-skopeo:x`, `docker-archive:${target}:busybox:imported`]);
    const [record] = await service.images.import(target);
    assert.deepEqual(record?.repoTags, [name]);
    await service.images.store.remove(name);
    assert.deepEqual(await service.layerNames(), []);
  });

  it("refuses what is no image, naming it, and keeps nothing", async () => {
    const path = join(directory, "bad");
    await assert.rejects(service.images.import(join(directory, "absent")), NotFoundError);
    for (const bytes of [
      Buffer.from("no archive at all"),
      Buffer.alloc(4096, "x"),
      gzipSync(ociArchive(image)),
      writeTar([{ path: "hello", content: "world" }]),
      ociArchive(image).subarray(0, 50_000),
      writeTar([{ path: "manifest.json", content: '[{"Config":"../../etc/passwd","Layers":[]}]' }]),
      writeTar([{ path: "index.json", content: '{"schemaVersion":2,"manifests":[]}' }]),
    ]) {
      await writeFile(path, bytes);
      await assert.rejects(service.images.import(path), (error: Error) => {
        assert.ok(error instanceof InvalidArgumentError, error.stack ?? "");
        return true;
      });
    }
    assert.deepEqual(await service.layerNames(), []);
  });

  it("refuses a blob with other content", async () => {
    const lying = join(directory, "lying");
    await writeOciLayout(lying, image, "busybox:lie");
    const layer = image.layers[1]?.digest.slice("sha256:".length) as string;
    const bytes = Buffer.from(image.layers[1]?.bytes as Buffer);
    bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1;
    await writeFile(join(lying, "blobs/sha256", layer), bytes);
    await assert.rejects(service.images.import(lying));
    assert.deepEqual(await service.layerNames(), []);
  });
});
