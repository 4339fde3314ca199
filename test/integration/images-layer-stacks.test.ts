/**
 * Layers that no tool would make: the same name several times, whiteouts before and after what they hide, ways through
 * links. Storage drivers go two ways to an image's tree, a union of the layers or one applied to the other; both have to
 * come to the same.
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { native } from "../../native/binding.js";
import { BerthError } from "../../sandbox/errors.js";
import { openSnapshots, type Snapshots } from "../../sandbox/rootfs/snapshots.js";
import { buildImage, writeOciLayout } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import type { TarEntry } from "../support/tar-writer.js";
import { describeTree } from "../support/trees.js";

interface Way {
  service: TestImages;
  snapshots: Snapshots;
}

let base: string;
let ways: Way[];
let serial = 0;

before(async () => {
  base = await mkdtemp(join(tmpdir(), "berth-stacks-"));
  await mkdir(join(base, "place"));
  ways = await Promise.all(
    (["overlay", "copy"] as const).map(async (driver) => {
      const service = await openTestImages({ driver, root: join(base, driver) });
      return { service, snapshots: await openSnapshots(service.root, service.layers) };
    }),
  );
});
after(async () => {
  for (const { service } of ways) await service.close();
  await rm(base, { recursive: true });
});

/** What one way makes of an image; undefined: it is refused. */
async function treeOf({ service, snapshots }: Way, layout: string): Promise<Map<string, string> | undefined> {
  const place = join(base, "place");
  try {
    const [record] = await service.images.import({ path: layout });
    assert.ok(record !== undefined);
    const fd = await snapshots.mountImage({ layers: record.layers, subPath: "" });
    try {
      await native.attachMount(fd, place);
      const told = await describeTree(place).finally(() => native.unmount(place));
      const made = BigInt(Date.now() - 3_600_000) * 1_000_000n;
      return new Map(
        Array.from(told, ([path, text]) => {
          const [mode, uid, gid, time = "0", links, ...rest] = text.split(" ");
          // a directory that no entry describes has the time of its making, and copies have names in other layers
          return [path, [mode, uid, gid, BigInt(time) > made ? "now" : time, links === "-", ...rest].join(" ")];
        }),
      );
    } finally {
      native.closeDescriptor(fd);
      await service.images.store.remove(record.id);
    }
  } catch (error) {
    assert.ok(error instanceof BerthError, error as Error);
    return undefined;
  }
}

async function bothWays(layers: TarEntry[][]): Promise<Map<string, string> | undefined> {
  const layout = join(base, `layout-${++serial}`);
  await writeOciLayout(layout, buildImage({ layers }), "x");
  const [union, applied] = [await treeOf(ways[0] as Way, layout), await treeOf(ways[1] as Way, layout)];
  assert.deepEqual(union, applied, JSON.stringify(layers));
  await rm(layout, { recursive: true });
  return union;
}

const time = { mtime: 1_000_000_000 };
const directory = (path: string, more: Partial<TarEntry> = {}): TarEntry => ({
  path,
  type: "directory",
  ...time,
  ...more,
});
const link = (path: string, to: string): TarEntry => ({ path, type: "symlink", link: to, ...time });
const file = (path: string, more: Partial<TarEntry> = {}): TarEntry => ({ path, content: path, ...time, ...more });
const below = [directory("a", { mode: 0o700, uid: 1 }), directory("a/in", { mode: 0o711 }), file("a/in/old")];

describe("stacks of layers are the same as a union and applied one to the other", () => {
  const names = async (layers: TarEntry[][]): Promise<string[]> =>
    [...((await bothWays(layers)) ?? [])].map(([path]) => path);

  it("a file that becomes a directory again has taken away what was below", async () => {
    assert.deepEqual(await names([below, [file("a"), directory("a"), file("a/new")]]), [".", "a", "a/new"]);
  });

  it("a whiteout is nothing that a link could have, and overlayfs's own are whiteouts, too", async () => {
    const linked: TarEntry = { path: "b/link", type: "hardlink", link: "a", ...time };
    assert.equal(await bothWays([below, [file(".wh.a"), linked]]), undefined);
    assert.equal(await bothWays([[file(".wh.a"), linked], below]), undefined);
    const own: TarEntry = { path: "a/in", type: "char", device: [0, 0], ...time };
    assert.deepEqual(await names([[own], below, [own, file("a/new")]]), [".", "a", "a/new"]);
  });

  it("a hard link may lead to what only the layers below have", async () => {
    const hard = (path: string, to: string): TarEntry => ({ path, type: "hardlink", link: to, ...time });
    const large = "x".repeat(3_000_000);
    const owned = { uid: 7, gid: 8, mode: 0o4711, pax: { "SCHILY.xattr.user.note": "kept" } };
    const bottom = [
      directory("a", { mode: 0o700, uid: 1 }),
      file("a/old", { content: "older" }),
      file("a/large", { content: large, ...owned }),
      link("a/link", "large"),
      link("way", "/a"),
      { path: "a/fifo", type: "fifo" as const, mode: 0o640, ...time },
    ];
    const middle = [file("a/old", { content: "newer", mtime: 5 })];
    const trees = await bothWays([
      bottom,
      middle,
      [
        ...[hard("one", "a/large"), hard("b/two", "/a/large"), hard("three", "one"), hard("old", "./a/old")],
        ...[hard("link", "a/link"), hard("fifo", "a/fifo"), hard("round", "way/large"), hard("a/here", "a/old")],
        // a link keeps what is hidden, or replaced, after it; and may be replaced itself
        ...[hard("kept", "a/old"), file("a/.wh.old"), hard("gone", "a/large"), file("gone", { content: "mine" })],
        ...[hard("first", "a/fifo"), hard("second", "first"), directory("first")],
      ],
      [hard("a/last", "three"), file("a/new")],
    ]);
    const all = ["one", "b/two", "three", "round", "a/last", "a/large"].map((path) => trees?.get(path));
    assert.match(all[0] ?? "", /^35273 7 8 1000000000000000000 /);
    assert.deepEqual(new Set(all).size, 1);
    assert.match(trees?.get("old") ?? "", /^33188 0 0 5000000000 /);
    assert.deepEqual(trees?.get("kept"), trees?.get("old"));
    assert.match(trees?.get("link") ?? "", / large$/);
    for (const path of ["fifo", "second"]) assert.match(trees?.get(path) ?? "", /^4512 /);
    assert.match(trees?.get("a") ?? "", /^16832 1 0 1000000000000000000 /);
    assert.equal(trees?.has("a/old"), false);

    // what is not there, or not any more, or is a directory
    for (const upper of [
      [hard("one", "a/never")],
      [hard("one", "a")],
      [file("a/.wh.old"), hard("one", "a/old")],
      [file("a/.wh..wh..opq"), hard("one", "a/old")],
      [file(".wh.a"), file("a/new"), hard("one", "a/old")],
    ]) {
      assert.equal(await bothWays([bottom, upper]), undefined, JSON.stringify(upper));
    }
    assert.equal(await bothWays([bottom, [file(".wh.a")], [hard("one", "a/old")]]), undefined);
  });

  it("hard links of aufs have what its private directory has, which is not seen itself", async () => {
    const linked = (path: string): TarEntry => ({ path, type: "hardlink", link: ".wh..wh.plnk/7.8", ...time });
    const tree = await bothWays([
      [directory("."), file(".wh..wh.plnk/7.8", { uid: 9 }), linked("one"), linked("a/two")],
    ]);
    assert.deepEqual([...(tree?.keys() ?? [])], [".", "a", "a/two", "one"]);
    assert.match(tree?.get("one") ?? "", /^33188 9 0 1000000000000000000 /);
  });

  it("a link may lead to what only the layers below have", async () => {
    for (const to of ["a/in", "/a/in", "../a/in", "x/../a/in"]) {
      const tree = await bothWays([below, [link("l", to), file("l/more/new")]]);
      assert.deepEqual([...(tree?.keys() ?? [])], [".", "a", "a/in", "a/in/more", "a/in/more/new", "a/in/old", "l"]);
      assert.equal(Number(tree?.get("a/in")?.split(" ")[0]) & 0o7777, 0o711);
    }
    assert.deepEqual(await names([[link("l", "made/here"), link("made", "l2"), file("l/new")]]), [
      ...[".", "l", "l2", "l2/here", "l2/here/new", "made"],
    ]);
  });

  it("a link of the layers below is not followed, nor is a file of theirs in the way: a directory takes their place", async () => {
    const bottom = [...below, link("way", "a"), file("file")];
    for (const upper of [
      [link("l", "way"), file("l/new")],
      [link("l", "other"), link("other", "/way"), file("l/new")],
      [file("way/.wh.in"), link("l", "way"), file("l/new")],
    ]) {
      const tree = await bothWays([bottom, upper]);
      assert.deepEqual([tree?.has("a/new"), tree?.has("way/new")], [false, true], JSON.stringify(upper));
    }
    for (const upper of [
      [link("l", "file"), file("l/new")],
      [file("file/.wh.old"), link("l", "file"), file("l/new")],
    ]) {
      assert.equal((await bothWays([bottom, upper]))?.has("file/new"), true, JSON.stringify(upper));
    }
    assert.deepEqual(await names([below, [file(".wh.a"), link("l", "a"), file("l/new")]]), [".", "a", "a/new", "l"]);
    assert.equal(await bothWays([bottom, [file("own"), link("l", "own"), file("l/new")]]), undefined);
  });

  it("nothing comes below a hard link to what the layers below have, a link perhaps, but layers above go on from there", async () => {
    const hard = (path: string, to: string): TarEntry => ({ path, type: "hardlink", link: to, ...time });
    const bottom = [...below, link("way", "a")];
    for (const upper of [
      [hard("x", "way"), file("x/new")],
      [hard("x", "way"), directory("x/new")],
      [hard("x", "way"), hard("y", "x"), file("y/new")],
      [hard("x", "way"), link("y", "x"), file("y/new")],
      [hard("x", "way"), hard("y", "x/in/old")],
      [hard("way", "way"), file("way/new")],
      [hard("x", "a/in/old"), file("x/new")],
    ]) {
      assert.equal(await bothWays([bottom, upper]), undefined, JSON.stringify(upper));
    }
    const tree = await bothWays([bottom, [hard("x", "way")], [file("x/new")]]);
    assert.equal(tree?.has("x/new"), true);
    // whoever links replaces what is there first
    assert.equal(await bothWays([bottom, [hard("a", "a/in/old")]]), undefined);
    assert.equal(await bothWays([bottom, [hard("x", "a/in/old"), hard("a", "a/in/old")]]), undefined);
  });

  it("a hard link is of the layer that has it: its whiteouts do not hide it", async () => {
    const hard = (path: string, to: string): TarEntry => ({ path, type: "hardlink", link: to, ...time });
    const bottom = [...below, link("way", "a")];
    const upper = [hard("x", "way"), file(".wh.x"), hard("y", "a/in/old"), file(".wh.y"), hard("a/in/z", "a/in/old")];
    const all = await names([bottom, [...upper, file("a/in/.wh..wh..opq")]]);
    assert.deepEqual(all, [".", "a", "a/in", "a/in/z", "way", "x", "y"]);
    const again = [hard("a/in/old", "a/in/old"), file("a/in/.wh..wh..opq")];
    assert.deepEqual(await names([bottom, again]), [".", "a", "a/in", "a/in/old", "way"]);
    // until something else takes its place, or the whole directory
    const replaced = [hard("a/in/z", "a/in/old"), file("a/in"), directory("a/in"), file("a/.wh.in")];
    assert.deepEqual(await names([bottom, replaced]), [".", "a", "a/in", "way"]);
  });

  it("a hard link to what is a directory for whiteouts alone leads to the file of the layers below", async () => {
    const hard = (path: string, to: string): TarEntry => ({ path, type: "hardlink", link: to, ...time });
    const bottom = [...below, link("way", "a"), file("file", { uid: 3 })];
    for (const marker of ["file/.wh.old", "file/.wh..wh..opq", "file/in/.wh.old"]) {
      const tree = await bothWays([bottom, [file(marker), hard("x", "file")]]);
      assert.match(tree?.get("x") ?? "", /^33188 3 0 1000000000000000000 /, marker);
      assert.deepEqual(tree?.get("file"), tree?.get("x"));
      assert.deepEqual(await bothWays([bottom, [file(marker), hard("file", "file")]]), await bothWays([bottom]));
    }
    assert.match((await bothWays([bottom, [file("way/.wh.in"), hard("x", "way")]]))?.get("x") ?? "", / a$/);
    for (const upper of [
      [file("a/.wh.in"), hard("x", "a")],
      [file("file/in/.wh.old"), hard("x", "file/in")],
      [file("file/.wh.old"), file("file/new"), hard("x", "file")],
      [file("b/.wh.old"), link("b", "b"), hard("x", "b"), file("x/new")],
    ]) {
      assert.equal(await bothWays([bottom, upper]), undefined, JSON.stringify(upper));
    }
  });

  it("whiteouts do not go through links, whatever those lead to", async () => {
    for (const to of ["a", "../a", "/a", "nowhere", "l"]) {
      const kept = await names([below, [link("l", to), file("l/.wh.in"), file("l/.wh..wh..opq")]]);
      assert.deepEqual(kept, [".", "a", "a/in", "a/in/old", "l"]);
    }
  });

  it("a directory made anew looks like none of what was hidden before, and otherwise like the one below", async () => {
    const modeOf = async (upper: TarEntry[]): Promise<string | undefined> =>
      (await bothWays([below, upper]))?.get("a/in")?.split(" ")[0];
    assert.equal(Number(await modeOf([file(".wh.a"), file("a/in/new")])) & 0o7777, 0o755);
    assert.equal(Number(await modeOf([file("a/.wh..wh..opq"), file("a/in/new")])) & 0o7777, 0o755);
    assert.equal(Number(await modeOf([file("a/in/new"), file("a/.wh..wh..opq")])) & 0o7777, 0o711);
  });

  it("a directory that no entry describes has nothing of a set-group-id directory that it is in", async () => {
    const tree = await bothWays([[directory("a", { mode: 0o2775, gid: 5 }), file("a/in/new")]]);
    assert.match(tree?.get("a/in") ?? "", /^16877 0 0 /);
  });

  it("what was said of a directory does not reach another one, which a link has put in its place", async () => {
    const other = [directory("b", { mode: 0o750 }), directory("b/in", { mode: 0o701, mtime: 5 })];
    const tree = await bothWays([below, [...other, file("a/in/new"), directory("a/in", { mtime: 7 }), link("a", "b")]]);
    assert.match(tree?.get("b/in") ?? "", /^16833 0 0 5000000000 /);
    const hiding = [directory("d"), file("c/b/.wh.a"), link("d", "/c"), file("d/b/new")];
    assert.deepEqual(await names([[directory("c/b")], hiding]), [".", "c", "c/b", "c/b/new", "d"]);
  });

  it("and so are any others", async () => {
    let seed = 20_261_127;
    const below = (limit: number): number => {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((seed / 2 ** 32) * limit);
    };
    const one = <T>(of: readonly T[]): T => of[below(of.length)] as T;
    const path = (): string => Array.from({ length: 1 + below(3) }, () => one(["a", "b", "c"])).join("/");
    let mtime = 1_000_000_000;
    const entry = (): TarEntry => {
      const at = path();
      const own = { path: at, mtime: ++mtime, uid: below(3), gid: below(3) };
      const kinds: (() => TarEntry)[] = [
        () => ({ ...own, content: at, mode: one([0o644, 0o4755]) }),
        () => ({ ...own, type: "directory", mode: one([0o755, 0o700, 0o2775]) }),
        () => ({ ...own, type: "directory" }),
        () => ({
          ...own,
          type: one(["fifo", "char"]),
          device: one([
            [1, 3],
            [0, 0],
          ]),
        }),
        () => ({ ...own, type: "symlink", link: one(["a", "../b", "/c", "nowhere"]) }),
        () => ({ ...own, type: "hardlink", link: path() }),
        () => ({ ...own, path: at.replace(/[^/]*$/, ".wh.$&") }),
        () => ({ ...own, path: `${at}/.wh..wh..opq` }),
      ];
      return one(kinds)();
    };
    let whole = 0;
    for (let round = 0; round < 30; round++) {
      const layers = Array.from({ length: 2 + below(2) }, () => [
        directory(".", { mtime: ++mtime }),
        ...Array.from({ length: 1 + below(5) }, entry),
      ]);
      if ((await bothWays(layers)) !== undefined) whole++;
    }
    assert.ok(whole >= 10, `only ${whole} of 30 were taken`);
  });
});
