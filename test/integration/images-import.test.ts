import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { hostPlatform } from "../../agent/images/platform.js";
import { InternalError, InvalidArgumentError, NotFoundError } from "../../sandbox/errors.js";
import {
  type BuiltImage,
  buildBusyboxImage,
  buildImage,
  digestOf,
  dockerArchive,
  ociArchive,
  writeOciLayout,
} from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { writeTar } from "../support/tar-writer.js";
import { storedZstd } from "../support/zstd.js";

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
    const [record, ...more] = await service.images.import({ path });
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

  it("takes an image without layers, of which docker save writes null", async () => {
    const none = buildImage({ layers: [] });
    const config = JSON.parse(none.configuration.bytes.toString());
    const bytes = Buffer.from(JSON.stringify({ ...config, rootfs: { type: "layers", diff_ids: null } }));
    const path = join(directory, "no-layers.tar");
    await writeFile(
      path,
      writeTar([
        { path: "config.json", content: bytes },
        { path: "manifest.json", content: '[{"Config":"config.json","RepoTags":null,"Layers":null}]' },
      ]),
    );
    const [record] = await service.images.import({ path });
    assert.deepEqual([record?.id, record?.layers], [digestOf(bytes), []]);
    await service.images.store.remove(digestOf(bytes));
  });

  it("takes compressed archives", async () => {
    const archives = {
      "oci.tar.gz": gzipSync(ociArchive(image, "busybox:imported")),
      "docker.tar.gz": gzipSync(dockerArchive(image, ["busybox:imported"])),
      "docker.tar.zst": storedZstd(dockerArchive(image, ["busybox:imported"])),
    };
    for (const [file, bytes] of Object.entries(archives)) {
      await writeFile(join(directory, file), bytes);
      await importAndRemove(join(directory, file), name);
    }
  });

  it("takes a docker save archive that was unpacked", async () => {
    await mkdir(join(directory, "unpacked"));
    await writeFile(join(directory, "docker.tar"), dockerArchive(image, ["busybox:imported"]));
    await run("tar", ["-xf", join(directory, "docker.tar"), "-C", join(directory, "unpacked")]);
    await importAndRemove(join(directory, "unpacked"), name);
  });

  it("gives the one image of an archive the name that is asked for", async () => {
    const path = join(directory, "named.tar");
    await writeFile(path, dockerArchive(image, ["busybox:imported", "other:1"]));
    const [record] = await service.images.import({ path, name: "mine" });
    assert.deepEqual(record?.repoTags, ["docker.io/library/mine:latest"]);
    await service.images.store.remove("mine");
    await assert.rejects(service.images.import({ path, name: `mine@${image.id}` }), /has a digest/);
    await assert.rejects(service.images.import({ path, name: "MINE" }), InvalidArgumentError);
    const item = { Config: "c", Layers: [] };
    await writeFile(path, writeTar([{ path: "manifest.json", content: JSON.stringify([item, item]) }]));
    await assert.rejects(service.images.import({ path, name: "mine" }), /2 images, which cannot all be called/);
    assert.deepEqual(await service.layerNames(), []);
  });

  it("gives it also where the archive has it under a name that is none", async () => {
    const path = join(directory, "odd-name");
    await writeOciLayout(path, image, "Feature/X");
    await assert.rejects(service.images.import({ path }), /"Feature\/X" is no image reference/);
    const [record] = await service.images.import({ path, name: "mine" });
    assert.deepEqual(record?.repoTags, ["docker.io/library/mine:latest"]);
    await service.images.store.remove(image.id);
  });

  it("makes an image of the tar of a root file system, the same of the same", async () => {
    const tar = writeTar([
      { path: "./", type: "directory", mode: 0o711 },
      { path: "./bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
    ]);
    for (const [file, bytes] of [
      ["root.tar", tar],
      ["root.tar.gz", gzipSync(tar)],
    ] as const) {
      const path = join(directory, file);
      await writeFile(path, bytes);
      await utimes(path, 1_700_000_000, 1_700_000_000);
      const changes = ['CMD ["busybox", "sh"]', "ENV PATH=/bin", "ENV A=b=c", "user 7", "EXPOSE 80", "LABEL x=y"];
      const record = await service.images.importRootfs({ path, name: "rooted:1", changes });
      assert.deepEqual(record.repoTags, ["docker.io/library/rooted:1"]);
      assert.deepEqual(record.layers, [digestOf(tar)]);
      const { config } = await service.images.store.configurationOf(record);
      const { Cmd, Env, User, ExposedPorts, Labels } = config.config;
      assert.deepEqual([Cmd, Env, User], [["busybox", "sh"], ["PATH=/bin", "A=b=c"], "7"]);
      assert.deepEqual([ExposedPorts, Labels], [{ "80/tcp": {} }, { x: "y" }]);
      // a level of amd64 would be this machine's, not the programs'
      assert.equal(record.config.variant, process.arch === "x64" ? undefined : hostPlatform().variant);
      assert.equal(record.config.created, "2023-11-14T22:13:20.000Z");
      assert.equal((await stat(service.layers.path(digestOf(tar)))).mode & 0o777, 0o711);
      const again = await service.images.importRootfs({ path, changes });
      assert.equal(again.id, record.id);
      await service.images.store.remove(record.id);
    }
    const path = join(directory, "root.tar");
    await assert.rejects(service.images.importRootfs({ path, changes: ["RUN x"] }), /"RUN x" is no change/);
    await assert.rejects(service.images.importRootfs({ path: directory }), /comes as a tar/);
    await writeFile(path, "no tar".repeat(1000));
    await assert.rejects(service.images.importRootfs({ path }), /could not be unpacked/);
    assert.deepEqual(await service.layerNames(), []);
  });

  const noSkopeo = existsSync("/usr/bin/skopeo") ? false : "skopeo is not installed";
  it("takes what skopeo writes as a docker archive", { skip: noSkopeo }, async () => {
    await writeOciLayout(join(directory, "for-skopeo"), image, "x");
    const target = join(directory, "skopeo.tar");
    await run("skopeo", ["copy", "-q", `oci:${directory}/for-skopeo:x`, `docker-archive:${target}:busybox:imported`]);
    const [record] = await service.images.import({ path: target });
    assert.deepEqual(record?.repoTags, [name]);
    await service.images.store.remove(name);
    assert.deepEqual(await service.layerNames(), []);
  });

  it("takes the image out of a layout that has what belongs to it, or other machines' images, too", async () => {
    const path = join(directory, "with-others");
    await writeOciLayout(path, image);
    const blobs = join(path, "blobs/sha256");
    const imageType = "application/vnd.oci.image.manifest.v1+json";
    const add = async (mediaType: string, value: object): Promise<object> => {
      const bytes = Buffer.from(JSON.stringify(value));
      await writeFile(join(blobs, digestOf(bytes).slice("sha256:".length)), bytes);
      return { mediaType, digest: digestOf(bytes), size: bytes.length };
    };
    const own = { mediaType: imageType, digest: image.manifest.digest, size: image.manifest.bytes.length };
    const artifact = async (config: object, layers: object[]): Promise<object> =>
      add(imageType, { schemaVersion: 2, mediaType: imageType, config, layers, subject: own });
    const empty = await add("application/vnd.oci.empty.v1+json", {});
    const signature = await artifact(await add("application/vnd.oci.image.config.v1+json", { config: {} }), [
      await add("application/vnd.dev.cosign.simplesigning.v1+json", { critical: 1 }),
    ]);
    const list = await artifact(empty, [await add("application/spdx+json", { packages: [] })]);
    const note = await artifact(empty, []);
    const other = buildImage({ layers: [[{ path: "a" }]], architecture: "s390x" });
    for (const { digest, bytes } of [other.manifest, other.configuration]) {
      await writeFile(join(blobs, digest.slice("sha256:".length)), bytes);
    }
    const foreign = { mediaType: imageType, digest: other.manifest.digest, size: other.manifest.bytes.length };
    const platform = { os: "linux", architecture: "s390x" };
    const index = (manifests: object[]) =>
      writeFile(join(path, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
    for (const beside of [signature, list, note, foreign, { ...foreign, platform }]) {
      for (const manifests of [
        [own, beside],
        [beside, own],
      ]) {
        await index(manifests);
        for (const asked of [undefined, "mine:1"]) {
          const records = await service.images.import({ path, ...(asked && { name: asked }) });
          assert.deepEqual(
            records.map(({ id }) => id),
            [image.id],
          );
          assert.deepEqual(records[0]?.repoTags, asked === undefined ? [] : ["docker.io/library/mine:1"]);
          await service.images.store.remove(image.id);
        }
      }
    }
    const called = { annotations: { "io.containerd.image.name": "x.test/several:1" } };
    await index([
      { ...foreign, ...called },
      { ...own, ...called },
    ]);
    const [several] = await service.images.import({ path });
    assert.deepEqual([several?.id, several?.repoTags], [image.id, ["x.test/several:1"]]);
    await service.images.store.remove(image.id);
    // alone, and under a name, they are asked for
    const named = { annotations: { "org.opencontainers.image.ref.name": "x.test/signature:1" } };
    for (const manifests of [
      [signature, list],
      [note],
      [{ ...foreign, platform }],
      [own, { ...signature, ...named }],
    ]) {
      await index(manifests);
      await assert.rejects(service.images.import({ path }), /is no container image|s390x/);
    }
    await service.images.store.remove(image.id);
    assert.deepEqual(await service.layerNames(), []);
  });

  it("refuses what is no image, naming it, and keeps nothing", async () => {
    const path = join(directory, "bad");
    await assert.rejects(service.images.import({ path: join(directory, "absent") }), NotFoundError);
    for (const bytes of [
      Buffer.from("no archive at all"),
      Buffer.alloc(4096, "x"),
      gzipSync(ociArchive(image)).subarray(0, -20),
      Buffer.from("fd377a585a0000", "hex"),
      Buffer.from("BZh91AY"),
      writeTar([{ path: "hello", content: "world" }]),
      ociArchive(image).subarray(0, 50_000),
      writeTar([{ path: "manifest.json", content: '[{"Config":"../../etc/passwd","Layers":[]}]' }]),
      writeTar([{ path: "index.json", content: '{"schemaVersion":2,"manifests":[]}' }]),
    ]) {
      await writeFile(path, bytes);
      await assert.rejects(service.images.import({ path }), (error: Error) => {
        const damaged = error instanceof InternalError && /the archive could not be read/.test(error.message);
        assert.ok(error instanceof InvalidArgumentError || damaged, error.stack ?? "");
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
    await assert.rejects(service.images.import({ path: lying }));
    assert.deepEqual(await service.layerNames(), []);
  });
});
