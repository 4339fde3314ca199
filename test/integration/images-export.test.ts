/** Images go out as OCI layouts that skopeo and umoci take, and come back as they were. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import type { ImageRecord } from "../../agent/images/image-store.js";
import { native } from "../../native/binding.js";
import { openSnapshots, type Snapshots } from "../../sandbox/rootfs/snapshots.js";
import { type BuiltImage, buildImage, dockerArchive, hostArchitecture } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import type { TarEntry } from "../support/tar-writer.js";
import { attributesOf, describeTree } from "../support/trees.js";

const run = promisify(execFile);
const skip = ["skopeo", "umoci"].some((name) => !existsSync(`/usr/bin/${name}`)) && "skopeo or umoci is not installed";
const capability = Buffer.from("0100000200200000000000000000000000000000", "hex").toString("latin1");

const bottom: TarEntry[] = [
  { path: "./", type: "directory", mode: 0o751, uid: 3 },
  { path: "etc/", type: "directory", mode: 0o700, gid: 9, pax: { mtime: "1600000000.123456789" } },
  { path: "etc/one", content: "1" },
  { path: "etc/gone", content: "1" },
  { path: "replaced/old", content: "1" },
  { path: "opaque/", type: "directory" },
  { path: "opaque/old", content: "1" },
  { path: "a", content: "linked", uid: 4_000_000, gid: 5_000_000 },
  { path: "z", type: "hardlink", link: "a" },
  { path: "s", type: "symlink", link: "x".repeat(300), pax: { mtime: "1500000000.5" } },
  { path: "dev/null", type: "char", device: [1, 3], mode: 0o666 },
  { path: "dev/disk", type: "block", device: [259, 300_000] },
  { path: "fifo", type: "fifo", mode: 0o640 },
  { path: `${"long/".repeat(40)}name`, content: "deep" },
  { path: "ping", content: "x", mode: 0o4755, pax: { "SCHILY.xattr.security.capability": capability } },
  { path: "noted", content: "x", pax: { "SCHILY.xattr.user.note": "kept", "SCHILY.xattr.user.also": "this" } },
  { path: "old", content: "before 1970", pax: { mtime: "-1.25" } },
];
const top: TarEntry[] = [
  { path: "etc/.wh.gone" },
  { path: "etc/two", content: "2" },
  { path: ".wh.replaced" },
  { path: "replaced/", type: "directory" },
  { path: "replaced/new", content: "2" },
  { path: "opaque/", type: "directory", mode: 0o711 },
  { path: "opaque/.wh..wh..opq" },
  { path: "opaque/new", content: "2" },
];

describe("exporting images", () => {
  let directory: string;
  let service: TestImages;
  let snapshots: Snapshots;
  let image: BuiltImage;
  let record: ImageRecord;

  const importDocker = async (built: BuiltImage, tags: string[]): Promise<ImageRecord> => {
    const path = join(directory, "import.tar");
    await writeFile(path, dockerArchive(built, tags));
    const [imported] = await service.images.import({ path });
    assert.ok(imported);
    return imported;
  };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "berth-export-"));
    service = await openTestImages();
    snapshots = await openSnapshots(service.root, service.layers);
    image = buildImage({ layers: [bottom, top], config: { Env: ["A=b"], Cmd: ["sh"], Labels: { made: "here" } } });
    record = await importDocker(image, ["every.test/kind:1"]);
  });
  after(async () => {
    await service.close();
    await rm(directory, { recursive: true, force: true });
  });

  const { signal } = new AbortController();
  const target = (name: string): string => join(directory, name);
  const exportTo = (path: string, ...images: string[]) => service.images.export({ images, path, signal });

  /** What is in an image, by its mount. */
  const contentOf = async (layers: readonly string[]): Promise<Map<string, string>> => {
    const place = target("mount");
    await mkdir(place, { recursive: true });
    const fd = await snapshots.mountImage({ layers, subPath: "" });
    try {
      await native.attachMount(fd, place);
      return await describeTree(place);
    } finally {
      await native.unmount(place);
      native.closeDescriptor(fd);
    }
  };

  it("makes a layout that is the image again when it is imported, and the same layout then", async () => {
    const before = await contentOf(record.layers);
    const [first] = await exportTo(target("first"), "every.test/kind:1");
    assert.notEqual(first?.id, record.id);
    await service.images.store.remove(record.id);
    assert.deepEqual(await service.layerNames(), []);

    const [imported] = await service.images.import({ path: target("first") });
    assert.equal(imported?.id, first?.id);
    assert.deepEqual(imported?.repoTags, ["every.test/kind:1"]);
    assert.deepEqual(imported?.config.config, record.config.config);
    assert.deepEqual(await contentOf(imported?.layers ?? []), before);
    const base = service.layers.path(imported?.layers[0] ?? "");
    assert.equal(attributesOf(join(base, "ping")).get("security.capability"), capability);
    assert.deepEqual([...attributesOf(join(base, "noted"))].sort(), [
      ["user.also", "this"],
      ["user.note", "kept"],
    ]);

    const [second] = await exportTo(target("second"), imported?.id ?? "");
    assert.deepEqual([second?.id, second?.digest], [first?.id, first?.digest]);
    assert.deepEqual((await readdir(target("second/blobs/sha256"))).length, 4);
    record = imported as ImageRecord;
  });

  it("says that an image is for what it says itself, whatever this machine's processor can do", async () => {
    for (const [variant, tag] of [
      [undefined, "any"],
      ["v2", "variant"],
    ] as const) {
      const built = buildImage({ layers: [[{ path: "a" }]], ...(variant && { variant }) });
      const { id } = await importDocker(built, [`every.test/${tag}:1`]);
      await exportTo(target(tag), id);
      const { manifests } = JSON.parse(await readFile(target(`${tag}/index.json`), "utf8"));
      const platform = { os: "linux", architecture: hostArchitecture, ...(variant && { variant }) };
      assert.deepEqual(manifests[0].platform, platform);
      await service.images.store.remove(id);
    }
  });

  it("writes files with holes as files with holes", async () => {
    const pax = { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": `${3 * 1024 ** 3}` };
    const map = Buffer.alloc(1024);
    map.write(`2\n1048576\n5\n${2 * 1024 ** 3}\n507\n`);
    map.write("start", 512);
    map.fill("e", 517);
    const entry = { path: "sparse", content: map, pax: { ...pax, "GNU.sparse.name": "sparse" } };
    const holes = await importDocker(buildImage({ layers: [[entry]] }), ["sparse:1"]);
    const [exported] = await exportTo(target("sparse.tar"), "sparse:1");
    assert.ok((await readFile(target("sparse.tar"))).length < 20_000);
    const [again] = await service.images.import({ path: target("sparse.tar") });
    assert.equal(again?.id, exported?.id);
    for (const { layers } of [holes, again as ImageRecord]) {
      const { size, blocks } = await stat(join(service.layers.path(layers[0] ?? ""), "sparse"));
      assert.equal(size, 3 * 1024 ** 3);
      assert.ok(blocks * 512 < 20_000);
    }
    for (const { id } of [holes, again as ImageRecord]) await service.images.store.remove(id);
  });

  it("makes a layout that umoci unpacks to the same files", { skip }, async () => {
    await exportTo(target("for-umoci"), "every.test/kind:1");
    await run("umoci", ["unpack", "--image", `${target("for-umoci")}:1`, target("bundle")]);
    const [ours, theirs] = [await contentOf(record.layers), await describeTree(target("bundle/rootfs"))];
    assert.deepEqual(theirs, ours);
    assert.equal(attributesOf(target("bundle/rootfs/ping")).get("security.capability"), capability);
  });

  it("makes a tar that skopeo reads, also of several images, which share their layers", { skip }, async () => {
    const both = await importDocker(image, ["every.test/both:1"]);
    const other = await importDocker(buildImage({ layers: [bottom], config: { User: "7" } }), ["other:1", "other:2"]);
    const exported = await exportTo(target("two.tar"), both.id, "other:2", other.id);
    assert.equal(exported.length, 2);
    const { stdout } = await run("tar", ["-tf", target("two.tar")]);
    // layers: the one that both have, two more; a configuration and a manifest each
    assert.equal(stdout.match(/blobs/g)?.length, 2 + 4, stdout);
    const inspect = async (name: string): Promise<{ Layers: string[] }> =>
      JSON.parse((await run("skopeo", ["inspect", `oci-archive:${target("two.tar")}:${name}`])).stdout);
    assert.equal((await inspect("every.test/both:1")).Layers.length, 2);
    assert.equal((await inspect("2")).Layers.length, 1);
    const docker = `docker-archive:${target("skopeo.tar")}:kind:again`;
    await run("skopeo", ["copy", "-q", `oci-archive:${target("two.tar")}:every.test/both:1`, docker]);
    const [back] = await service.images.import({ path: target("skopeo.tar") });
    assert.deepEqual(await contentOf(back?.layers ?? []), await contentOf(both.layers));
    for (const { id } of [both, other, back as ImageRecord]) await service.images.store.remove(id);
  });

  it("makes a tar that podman and Docker read, too: several images, each with all of its names, and one without any", async () => {
    const other = await importDocker(buildImage({ layers: [bottom], config: { User: "7" } }), ["other:1", "other:2"]);
    const unnamed = await importDocker(buildImage({ layers: [bottom, top], config: { User: "8" } }), []);
    const exported = await exportTo(target("list.tar"), record.id, other.id, unnamed.id);
    const { stdout } = await run("tar", ["-xOf", target("list.tar"), "manifest.json"]);
    const list = JSON.parse(stdout) as { Config: string; RepoTags: string[]; Layers: string[] }[];
    const blob = (digest: string | undefined) => `blobs/sha256/${digest?.slice("sha256:".length)}`;
    assert.deepEqual(
      list.map(({ Config, RepoTags, Layers }) => [Config, RepoTags, Layers.length]),
      [
        [blob(exported[0]?.id), ["every.test/kind:1"], 2],
        [blob(exported[1]?.id), ["docker.io/library/other:1", "docker.io/library/other:2"], 1],
        [blob(exported[2]?.id), [], 2],
      ],
    );
    const content = await contentOf(other.layers);
    for (const { id } of [other, unnamed]) await service.images.store.remove(id);
    // with the layout alone, and with Docker's list alone
    const again = await service.images.import({ path: target("list.tar") });
    assert.deepEqual(new Set(again.map(({ id }) => id)), new Set(exported.map(({ id }) => id)));
    const imported = service.images.store.find("other:2");
    assert.deepEqual(imported?.repoTags, ["docker.io/library/other:1", "docker.io/library/other:2"]);
    assert.match(imported?.repoDigests[0] ?? "", /other@sha256:/);
    assert.deepEqual(await contentOf(imported?.layers ?? []), content);
    for (const { id } of exported.slice(1)) await service.images.store.remove(id);
    await mkdir(target("list"));
    await run("tar", ["-xf", target("list.tar"), "-C", target("list"), "blobs", "manifest.json"]);
    const docker = await service.images.import({ path: target("list") });
    assert.deepEqual(
      docker.map(({ id }) => id),
      exported.map(({ id }) => id),
    );
    for (const { id } of exported.slice(1)) await service.images.store.remove(id);
  });

  it("makes a tar from which skopeo takes each image by each of its names", { skip }, async () => {
    const other = await importDocker(buildImage({ layers: [bottom], config: { User: "7" } }), ["other:1", "other:2"]);
    await exportTo(target("named.tar"), record.id, other.id);
    for (const [name, layers] of [
      ["every.test/kind:1", 2],
      ["other:1", 1],
      ["other:2", 1],
    ] as const) {
      const { stdout } = await run("skopeo", ["inspect", `docker-archive:${target("named.tar")}:${name}`]);
      assert.equal((JSON.parse(stdout) as { Layers: string[] }).Layers.length, layers, name);
    }
    await service.images.store.remove(other.id);
  });

  it("refuses what is not there, and a place that is taken; and leaves nothing when it is cancelled", async () => {
    await assert.rejects(exportTo(target("none"), "nobody/has:1"), { kind: "NOT_FOUND" });
    await assert.rejects(exportTo(target("none")), { kind: "INVALID_ARGUMENT" });
    await assert.rejects(exportTo(target("no/such/place"), record.id), { kind: "INVALID_ARGUMENT" });
    await writeFile(target("taken.tar"), "mine");
    await mkdir(target("taken/here"), { recursive: true });
    await mkdir(target("empty"));
    for (const name of ["taken.tar", "taken"]) {
      await assert.rejects(exportTo(target(name), record.id), { kind: "ALREADY_EXISTS" });
    }
    for (const name of ["none", "none.tar", "empty"]) {
      const images = [record.id];
      const cancelled = service.images.export({ images, path: target(name), signal: AbortSignal.abort() });
      await assert.rejects(cancelled, { kind: "CANCELLED" });
    }
    assert.equal(await readFile(target("taken.tar"), "utf8"), "mine");
    assert.deepEqual(await readdir(target("empty")), []);
    assert.ok(!existsSync(target("none")) && !existsSync(target("none.tar")));
  });
});
