/** Every storage driver, on a real file system of its own: the same images and containers, with the same result. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFile,
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  statfs,
  unlink,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { checkStore } from "../../agent/images/check-store.js";
import { native } from "../../native/binding.js";
import type { StorageDriverName } from "../../sandbox/rootfs/drivers/driver.js";
import { rootChanges } from "../../sandbox/rootfs/root-changes.js";
import { openSnapshots, type Snapshots } from "../../sandbox/rootfs/snapshots.js";
import { type FileSystemKind, lacksStorage, makeFileSystem, type TestFileSystem } from "../support/file-systems.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import { measured } from "../support/measured.js";
import type { TarEntry } from "../support/tar-writer.js";
import { attributesOf, describeTree } from "../support/trees.js";

const cases: { driver: StorageDriverName; on: FileSystemKind; sharesBlocks: boolean }[] = [
  { driver: "overlay", on: "ext4", sharesBlocks: false },
  { driver: "copy", on: "ext4", sharesBlocks: false },
  { driver: "copy", on: "xfs", sharesBlocks: true },
  { driver: "btrfs", on: "btrfs", sharesBlocks: true },
  { driver: "devmapper", on: "ext4", sharesBlocks: true },
];

const signal = new AbortController().signal;
const capability = Buffer.from("0100000200200000000000000000000000000000", "hex").toString("latin1");
/** user::rwx, user:7:rwx, group::r-x, mask::rwx, other::--- in the kernel's form */
const defaultAcl = aclOf([1, 7], [2, 7, 7], [4, 5], [16, 7], [32, 0]);
const bulk = Buffer.alloc(20 * 1024 ** 2, "bulk of the image");

const layers: TarEntry[][] = [
  [
    { path: "./", type: "directory", mode: 0o751, uid: 3 },
    { path: "etc/", type: "directory", mode: 0o700, gid: 9 },
    { path: "etc/one", content: "1" },
    { path: "etc/gone", content: "1" },
    { path: "file-to-directory", content: "1" },
    { path: "directory-to-file/below", content: "1" },
    { path: "replaced/old", content: "1" },
    { path: "replaced/deep/old", content: "1" },
    { path: "opaque/", type: "directory", mode: 0o711, pax: { "SCHILY.xattr.user.below": "1" } },
    { path: "opaque/old", content: "1" },
    { path: "opaque/sub/old", content: "1" },
    { path: "late/old", content: "1" },
    { path: "late/sub/old", content: "1" },
    { path: "merged/", type: "directory", mode: 0o705, uid: 70_000 },
    { path: "merged/old", content: "1" },
    { path: "noted/", type: "directory", mode: 0o1777, pax: { "SCHILY.xattr.user.below": "1" } },
    { path: "to-merged", type: "symlink", link: "merged" },
    { path: "links/a", content: "linked", uid: 5 },
    { path: "links/b", type: "hardlink", link: "links/a" },
    { path: "ping", mode: 0o4755, content: "x", pax: { "SCHILY.xattr.security.capability": capability } },
    { path: "null", type: "char", device: [1, 3], mode: 0o666 },
    { path: "block", type: "block", device: [7, 200] },
    { path: "fifo", type: "fifo", mode: 0o640, uid: 3_000_000_000 },
    { path: "times", content: "t", pax: { mtime: "1000000000.123456789" } },
    { path: "setgid/", type: "directory", mode: 0o2775, gid: 7 },
    { path: "inheriting/", type: "directory", pax: { "SCHILY.xattr.system.posix_acl_default": defaultAcl } },
    { path: "bulk", content: bulk },
    ...["ghost-1/x", "ghost-2/x", "ghost-3/x"].map((path) => ({ path, content: "1" })),
    { path: "ghost-link", type: "symlink", link: "etc" },
    { path: "ghost-bottom/deep/.wh.x" },
  ],
  [
    { path: "etc/.wh.gone" },
    { path: "etc/two", content: "2" },
    { path: "file-to-directory/below", content: "2" },
    { path: "directory-to-file", content: "2" },
    { path: ".wh.replaced" },
    { path: "replaced/new", content: "2" },
    { path: "opaque/.wh..wh..opq" },
    { path: "opaque/new", content: "2" },
    // a marker hides what is below, not what the layer itself has
    { path: "late/new", content: "2" },
    { path: "late/sub/new", content: "2" },
    { path: "late/.wh..wh..opq" },
    { path: "both", content: "2" },
    { path: ".wh.both" },
    { path: "merged/new", content: "2" },
    { path: "noted/", type: "directory", mode: 0o755, uid: 1 },
    // through a link of the layer below: a directory takes its place
    { path: "to-merged/own", content: "2" },
    { path: "setgid/inside", content: "2" },
    { path: "setgid/implicit/deep", content: "2" },
    // what is not there, or not any more, has nothing to hide, and does not come into being by that
    { path: "ghost-never/deep/.wh.x" },
    { path: "ghost-opaque/.wh..wh..opq" },
    { path: "etc/ghost-inside/.wh.x" },
    { path: ".wh.ghost-1" },
    { path: "ghost-1/.wh.x" },
    { path: "ghost-1/deep/.wh..wh..opq" },
    { path: "ghost-2/.wh.x" },
    { path: ".wh.ghost-2" },
    { path: ".wh.ghost-3" },
    { path: "ghost-link/.wh.one" },
    { path: "used/.wh.x" },
    { path: "used/deep/.wh.x" },
    { path: "used/deep/file", content: "2" },
  ],
  [
    { path: "ghost-3/.wh.x" },
    { path: "inheriting/made", content: "3" },
    { path: "inheriting/implicit/made", content: "3" },
    { path: "links/c", content: "linked", uid: 6 },
    { path: "links/d", type: "hardlink", link: "links/c" },
    { path: "etc/one", content: "3", mode: 0o600 },
  ],
];

function aclOf(...entries: [tag: number, permissions: number, id?: number][]): string {
  const bytes = Buffer.alloc(4 + 8 * entries.length);
  bytes.writeUInt32LE(2);
  for (const [index, [tag, permissions, id = 0xffff_ffff]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + 8 * index);
    bytes.writeUInt16LE(permissions, 6 + 8 * index);
    bytes.writeUInt32LE(id, 8 + 8 * index);
  }
  return bytes.toString("latin1");
}

/** As describeTree has it; when it is of now, nobody said when. */
async function described(path: string): Promise<Map<string, string>> {
  const recent = BigInt(Date.now() - 3600_000) * 1_000_000n;
  return new Map(
    Array.from(await describeTree(path), ([name, told]) => {
      const parts = told.split(" ");
      if (BigInt(parts[3] ?? 0) > recent) parts[3] = "recent";
      return [name, parts.join(" ")];
    }),
  );
}

async function withMount<T>(fd: number, place: string, use: () => Promise<T>): Promise<T> {
  try {
    await native.attachMount(fd, place);
    try {
      return await use();
    } finally {
      await native.unmount(place);
    }
  } finally {
    native.closeDescriptor(fd);
  }
}

async function pull(service: TestImages, image: BuiltImage): Promise<string[]> {
  const registry = await startLyingRegistry(image);
  try {
    return (await service.images.pull({ reference: `${registry.host}/x:1` })).layers;
  } finally {
    await registry.stop();
  }
}

/** A layer that hides all below it: what comes before the marker and after it stays, the root directory as well. */
const beginsAnew = buildImage({
  layers: [
    layers[0] ?? [],
    [
      { path: "etc/early", content: "2" },
      { path: ".wh..wh..opq" },
      { path: "merged/.wh.old" },
      { path: "merged/late", content: "2" },
      { path: ".wh.opaque" },
      { path: "late/.wh.old" },
    ],
    [
      { path: "replaced/top", content: "3" },
      { path: "merged/top", content: "3" },
      { path: "etc/.wh.early" },
      { path: "noted/.wh.x" },
    ],
  ],
});

const image = buildImage({ layers });
let reference: TestImages;
let expected: Map<string, string>;

before(async () => {
  reference = await openTestImages();
  const snapshots = await openSnapshots(reference.root, reference.layers);
  const chain = await pull(reference, image);
  const place = await mkdtemp(join(reference.root, "mount-"));
  const fd = await snapshots.mountImage({ layers: chain, subPath: "" });
  expected = await withMount(fd, place, () => described(place));
});
after(() => reference.close());

for (const { driver, on, sharesBlocks } of cases) {
  const skip = lacksStorage(driver, on) ?? false;
  describe(`storage driver ${driver} on ${on}`, { skip }, () => {
    let fileSystem: TestFileSystem;
    let service: TestImages;
    let snapshots: Snapshots;
    let chain: string[];
    let place: string;

    before(async () => {
      fileSystem = makeFileSystem(on, 400);
      service = await openTestImages({ root: join(fileSystem.path, "root"), driver });
      snapshots = await openSnapshots(service.root, service.layers);
      place = await mkdtemp(join(fileSystem.path, "mount-"));
      chain = await pull(service, image);
    });
    after(async () => {
      service.layers.driver.close?.();
      await fileSystem.close();
    });

    const check = async (): Promise<string[]> => {
      const parts = { images: service.images.store, layers: service.layers, snapshots };
      const { problems } = await checkStore({ ...parts, usersOf: () => [], isContainer: () => true });
      return problems.map(({ subject, what }) => `${subject}: ${what}`);
    };
    const withRoot = async (id: string, use: (upper: string) => Promise<void>, of = chain): Promise<void> => {
      const { rootFd, upperDirectory } = await snapshots.prepareRootfs({ containerId: id, layers: of });
      try {
        await withMount(rootFd, place, () => use(upperDirectory));
      } finally {
        await snapshots.removeRootfs(id);
        await untilDeleted();
      }
    };
    const untilDeleted = async (): Promise<void> => {
      for (let tries = 0; (await readdir(snapshots.directory)).length > 0; tries++) {
        assert.ok(tries < 200, "a container's root was not deleted");
        await sleep(50);
      }
    };
    const used = async (): Promise<number> => {
      await native.syncFileSystem(fileSystem.path);
      const { bavail, bsize, blocks } = await statfs(fileSystem.path);
      return (blocks - bavail) * bsize;
    };

    it("shows an image's layers as one tree, attribute for attribute", async () => {
      const fd = await snapshots.mountImage({ layers: chain, subPath: "" });
      await withMount(fd, place, async () => {
        const shown = await described(place);
        // further names that files have in other layers
        const names = (tree: Map<string, string>) => [...tree.keys()].sort();
        assert.deepEqual(names(shown), names(expected));
        const ghosts = names(shown).filter((name) => name.includes("ghost"));
        assert.deepEqual(ghosts, ["ghost-link"]);
        assert.equal(await readFile(join(place, "etc/one"), "utf8"), "3");
        assert.deepEqual(await readdir(join(place, "used/deep")), ["file"]);
        const attributes = attributesOf(join(place, "ping"));
        assert.equal(attributes.get("security.capability"), capability);
        assert.equal(attributesOf(join(place, "noted")).get("user.below"), undefined);
        await assert.rejects(writeFile(join(place, "new"), ""), { code: "EROFS" });
      });
      const part = await snapshots.mountImage({ layers: chain, subPath: "etc" });
      await withMount(part, place, async () => assert.deepEqual((await readdir(place)).sort(), ["one", "two"]));
    });

    it("shows nothing that is below a layer which hides all below it", async () => {
      const names = ["etc", "merged", "merged/late", "merged/top", "replaced", "replaced/top"];
      const before = service.images.store.list().map(({ id }) => id);
      const of = await pull(service, beginsAnew);
      const [id = ""] = service.images.store
        .list()
        .flatMap((record) => (before.includes(record.id) ? [] : [record.id]));
      await withMount(await snapshots.mountImage({ layers: of, subPath: "" }), place, async () => {
        const shown = await described(place);
        assert.deepEqual([...shown.keys()].filter((name) => name !== ".").sort(), names);
        const owned = async (name: string) => {
          const { mode, uid, gid } = await stat(join(place, name));
          return [(mode & 0o7777).toString(8), uid, gid];
        };
        assert.deepEqual(await owned("."), ["751", 3, 0]);
        // this one was there when its entry came, the others are made anew
        assert.deepEqual(await owned("etc"), ["700", 0, 9]);
        assert.deepEqual(await owned("merged"), ["755", 0, 0]);
        assert.deepEqual(await owned("replaced"), ["755", 0, 0]);
      });
      const looks = async () => {
        assert.deepEqual((await readdir(join(place, "merged"))).sort(), ["late", "top"]);
        await assert.rejects(stat(join(place, "links/a")), { code: "ENOENT" });
      };
      await withRoot("anew", looks, of);
      assert.deepEqual(await check(), []);
      const path = join(fileSystem.path, "exported");
      await service.images.export({ images: [id], path, signal });
      const other = await openTestImages();
      const [again] = await other.images.import({ path });
      const elsewhere = await openSnapshots(other.root, other.layers);
      await withMount(await elsewhere.mountImage({ layers: again?.layers ?? [], subPath: "" }), place, looks);
      await other.close();
      await rm(path, { recursive: true });
      await service.images.store.remove(id);
      await service.layers.settle();
    });

    it("gives a container that tree, with what is linked linked", () =>
      withRoot("same", async () => {
        const shown = await described(place);
        // what is mounted over in every container
        for (const name of ["dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf"]) shown.delete(name);
        // and made in its root, if the image has none
        const withoutTime = (tree: Map<string, string>) =>
          [...tree].map(([name, told]) => [name, name === "." ? told.replace(/ (recent|\d{19}) /, " ") : told]).sort();
        assert.deepEqual(withoutTime(shown), withoutTime(expected));
        assert.equal(attributesOf(join(place, "ping")).get("security.capability"), capability);
        const acl = "system.posix_acl_";
        assert.equal(attributesOf(join(place, "inheriting")).get(`${acl}default`), defaultAcl);
        assert.equal(attributesOf(join(place, "inheriting/made")).get(`${acl}access`), undefined);
        const [a, b] = await Promise.all(["links/a", "links/b"].map((name) => stat(join(place, name))));
        assert.deepEqual([a?.ino, a?.nlink], [b?.ino, 2]);
      }));

    it("keeps containers and layers apart", async () => {
      const top = async (): Promise<Map<string, string>> => {
        const hide = await service.layers.show(chain.slice(-1));
        const shown = await described(service.layers.path(chain.at(-1) as string));
        await hide();
        return shown;
      };
      const before = await top();
      await withRoot("one", async () => {
        await appendFile(join(place, "etc/one"), "changed");
        await writeFile(join(place, "links/a"), "changed");
        await chmod(join(place, "ping"), 0o600);
        await unlink(join(place, "etc/two"));
        await link(join(place, "bulk"), join(place, "another"));
        const handle = await open(join(place, "bulk"), "r+");
        await handle.write("changed", 4096);
        await handle.close();
      });
      await withRoot("two", async () => {
        assert.equal(await readFile(join(place, "etc/one"), "utf8"), "3");
        assert.equal(await readFile(join(place, "links/b"), "utf8"), "linked");
        assert.equal((await stat(join(place, "ping"))).mode & 0o7777, 0o4755);
        assert.ok((await readFile(join(place, "bulk"))).equals(bulk));
      });
      assert.deepEqual(await top(), before);
    });

    it("measures what a container has written, not its image", () =>
      withRoot("measured", async () => {
        const content = Buffer.alloc(3 * 1024 ** 2, 1);
        await mkdir(join(place, "written"));
        for (const name of ["a", "b"]) await writeFile(join(place, "written", name), content);
        await native.syncFileSystem(fileSystem.path);
        const usage = await measured(snapshots, "measured");
        assert.ok(usage.bytes >= 6 * 1024 ** 2 && usage.bytes < 7 * 1024 ** 2, String(usage.bytes));
        assert.ok(usage.inodes >= 3 && usage.inodes <= 6, String(usage.inodes));
      }));

    it("takes little of the disk for what layers and containers have in common", async (context) => {
      const before = await used();
      await withRoot("cheap", async () => {
        const taken = (await used()) - before;
        if (driver === "copy" && !sharesBlocks) assert.ok(taken >= bulk.length, String(taken));
        else assert.ok(taken < bulk.length / 4, String(taken));
        context.diagnostic(`a container takes ${taken} bytes of an image of ${bulk.length}`);
      });
      // three layers, of which the first has nearly everything
      const bytes = service.layers.list().reduce((sum, layer) => sum + layer.bytes, 0);
      assert.ok(bytes >= bulk.length && bytes < bulk.length * 1.2, String(bytes));
    });

    it("tells what a container has changed", () =>
      withRoot("changed", async () => {
        await writeFile(join(place, "etc/new"), "");
        await writeFile(join(place, "times"), "other");
        await unlink(join(place, "links/d"));
        const told: string[] = [];
        const comparison = await snapshots.compareRootfs("changed", chain);
        for await (const changes of rootChanges(comparison, signal)) {
          for (const { kind, path } of changes) told.push(`${kind} ${path.toString()}`);
        }
        await comparison.close();
        assert.deepEqual(told, ["changed etc", "added etc/new", "changed links", "deleted links/d", "changed times"]);
      }));

    it("makes archives of its layers that are the image again", async () => {
      const path = join(fileSystem.path, "exported");
      const [id] = service.images.store.list().map((record) => record.id);
      await service.images.export({ images: [id as string], path, signal });
      const other = await openTestImages();
      try {
        const [again] = await other.images.import({ path });
        const shown = await openSnapshots(other.root, other.layers);
        const fd = await shown.mountImage({ layers: again?.layers ?? [], subPath: "" });
        await withMount(fd, place, async () => {
          assert.deepEqual([...(await described(place)).keys()].sort(), [...expected.keys()].sort());
          assert.equal(await readFile(join(place, "late/sub/new"), "utf8"), "2");
          assert.equal((await lstat(join(place, "to-merged"))).isDirectory(), true);
        });
      } finally {
        await other.close();
        await rm(path, { recursive: true });
      }
    });

    it("makes a root without any layer", () => withRoot("empty", async () => writeFile(join(place, "file"), ""), []));

    it("removes subvolumes that a container has made", { skip: driver !== "btrfs" && "there are none" }, async () => {
      const subvolume = (...args: string[]): void => void execFileSync("btrfs", ["subvolume", ...args]);
      await withRoot("nesting", async () => {
        const deep = join(place, "own", "below");
        await mkdir(join(place, "own"));
        subvolume("create", deep);
        await mkdir(join(deep, "directory"));
        for (const name of ["one", "two"]) subvolume("create", join(deep, "directory", name));
        await writeFile(join(deep, "directory/one/file"), "");
        subvolume("snapshot", "-r", deep, join(deep, "directory/two/frozen"));
        execFileSync("btrfs", ["property", "set", deep, "ro", "true"]);
      });
      const listed = execFileSync("btrfs", ["subvolume", "list", fileSystem.path], { encoding: "utf8" });
      assert.equal(listed.match(/ path root\/layers\/[0-9a-f]{32}\/fs$/gm)?.length, 3, listed);
      assert.equal(listed.trimEnd().split("\n").length, 3, listed);
    });

    it("sweeps what a crash has left, and removes all there is", async () => {
      await service.layers.stage(`sha256:${"5".repeat(64)}`, chain.at(-1));
      const { rootFd } = await snapshots.prepareRootfs({ containerId: "left", layers: chain });
      native.closeDescriptor(rootFd);
      service.layers.driver.close?.();
      service = await openTestImages({ root: service.root, driver });
      snapshots = await openSnapshots(service.root, service.layers);
      assert.equal((await service.layerNames()).length, 3);
      assert.deepEqual(await check(), []);
      assert.deepEqual(await snapshots.listRootfs(), ["left"]);
      await snapshots.removeRootfs("left");
      for (const { id } of service.images.store.list()) await service.images.store.remove(id);
      assert.deepEqual(await service.layerNames(), []);
      await untilDeleted();
      assert.deepEqual(await check(), []);
    });
  });
}
