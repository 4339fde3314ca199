/** berth-unpack, layer by layer: as GNU tar would do it, in overlayfs's form, and never outside of its directory. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import type { Stats } from "node:fs";
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { native } from "../../native/binding.js";
import type { BerthError } from "../../sandbox/errors.js";
import { type UnpackedLayer, unpackLayer } from "../../sandbox/rootfs/unpack-layer.js";
import { type TarEntry, writeTar } from "../support/tar-writer.js";
import { attributesOf, describeTree } from "../support/trees.js";
import { storedZstd } from "../support/zstd.js";

const run = promisify(execFile);

let base: string;
let victim: string;
let serial = 0;

async function emptyDirectory(): Promise<string> {
  const directory = join(base, `layer-${++serial}`);
  await mkdir(directory);
  return directory;
}

async function unpackBytes(
  bytes: Uint8Array,
  chunkBytes = 65_536,
): Promise<{ directory: string; layer: UnpackedLayer }> {
  const directory = await emptyDirectory();
  const source = async function* (): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
  };
  return { directory, layer: await unpackLayer({ directory, source: source() }) };
}

async function unpack(entries: TarEntry[]): Promise<{ directory: string; layer: UnpackedLayer }> {
  return unpackBytes(writeTar(entries));
}

async function refuses(entries: TarEntry[], message: RegExp): Promise<void> {
  await assert.rejects(unpack(entries), (error: BerthError) => {
    assert.match(error.message, message);
    return true;
  });
}

function isWhiteout(status: Stats): boolean {
  return status.isCharacterDevice() && status.rdev === 0;
}

before(async () => {
  base = await mkdtemp(join(tmpdir(), "berth-layers-"));
  victim = join(base, "victim");
  await mkdir(victim, { mode: 0o700 });
  await writeFile(join(victim, "canary"), "untouched", { mode: 0o600 });
});
after(async () => {
  assert.equal(await readFile(join(victim, "canary"), "utf8"), "untouched");
  assert.equal((await lstat(join(victim, "canary"))).mode & 0o7777, 0o600);
  assert.equal((await lstat(victim)).mode & 0o7777, 0o700);
  assert.deepEqual(await readdir(victim), ["canary"]);
  await rm(base, { recursive: true, force: true });
});

describe("a layer of every kind of file", () => {
  for (const format of ["gnu", "posix"]) {
    for (const sparse of [[], ["--sparse"]]) {
      it(`is what GNU tar makes of its own ${format} archive ${sparse.join("")}`, async () => {
        const source = await emptyDirectory();
        const long = "n".repeat(120);
        const script = `
          set -e; cd "$1"; mkdir -p d/e setgid ${long}/${long}; echo content > d/file; ln d/file d/hard; ln -s ../gone d/sym
          chmod 2775 setgid; chmod 1777 d/e; mknod d/null c 1 3; mknod d/block b 7 200; mkfifo -m 640 d/fifo
          echo x > setgid/inside; chown 70000:3000000000 setgid/inside; cp /bin/busybox d/suid; chown 1:2 d/suid
          chmod 6755 d/suid; echo deep > ${long}/${long}/${long}; ln -s ${long}/${long}/${long} long-link
          truncate -s 20M holes; echo hole | dd of=holes bs=1 seek=9000000 conv=notrunc status=none
          touch -h -d '2001-02-03 04:05:06.123456789' d/sym d/null d; echo é > 'nämé'`;
        await run("bash", ["-c", script, "bash", source]);
        const archive = join(base, `${format}-${serial}.tar`);
        await run("tar", [`--format=${format}`, ...sparse, "-cf", archive, "-C", source, "."]);
        const expected = await emptyDirectory();
        await run("tar", ["-xpf", archive, "--numeric-owner", "-C", expected]);
        const bytes = await readFile(archive);
        for (const stream of [bytes, gzipSync(bytes, { level: 1 })]) {
          const { directory, layer } = await unpackBytes(stream);
          assert.deepEqual(await describeTree(directory), await describeTree(expected));
          assert.equal(layer.diffId, `sha256:${createHash("sha256").update(bytes).digest("hex")}`);
          assert.equal(layer.implicit.length, 0);
          assert.equal(layer.rootIsImplicit, false);
        }
      });
    }
  }

  it("keeps capabilities and user attributes, drops what steers overlayfs", async () => {
    const capability = Buffer.from("0100000200200000000000000000000000000000", "hex").toString("latin1");
    const { directory } = await unpack([
      {
        path: "ping",
        mode: 0o755,
        uid: 5,
        content: "x",
        pax: {
          "SCHILY.xattr.security.capability": capability,
          "SCHILY.xattr.user.note": "kept",
          "SCHILY.xattr.trusted.overlay.redirect": "/etc",
          "SCHILY.xattr.user.overlay.redirect": "/etc",
          "SCHILY.xattr.security.selinux": "label",
        },
      },
    ]);
    const path = join(directory, "ping");
    const attributes = attributesOf(path);
    assert.deepEqual([...attributes.keys()].sort(), ["security.capability", "user.note"]);
    assert.equal(attributes.get("user.note"), "kept");
    assert.equal(attributes.get("security.capability"), capability);
  });
});

describe("extended headers", () => {
  it("keep attributes that are empty, and have times cut off towards the past, as GNU tar does", async () => {
    const archive = writeTar([
      { path: "empty", pax: { "SCHILY.xattr.user.empty": "", "SCHILY.xattr.user.full": "1" } },
      { path: "old", pax: { mtime: "-5.1234567899" } },
      { path: ".", type: "directory" },
    ]);
    await writeFile(join(base, "attributes.tar"), archive);
    const expected = await emptyDirectory();
    await run("tar", ["-xpf", join(base, "attributes.tar"), "--xattrs", "-C", expected]);
    const { directory } = await unpackBytes(archive);
    assert.deepEqual(await describeTree(directory), await describeTree(expected));
    assert.deepEqual([...attributesOf(join(directory, "empty"))], [...attributesOf(join(expected, "empty"))]);
    assert.equal(attributesOf(join(directory, "empty")).get("user.empty"), "");
  });

  it("are taken back by an empty value, also where a global one has said it", async () => {
    const global = writeTar([{ path: "x", pax: { uid: "7", gid: "8" } }]).subarray(0, 1024);
    global.write("g", 156, "latin1");
    const sum = global.subarray(0, 512).reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 32 : byte), 0);
    global.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    const { directory } = await unpackBytes(
      Buffer.concat([global, writeTar([{ path: "both" }, { path: "one", pax: { uid: "" } }])]),
    );
    const [both, one] = [await lstat(join(directory, "both")), await lstat(join(directory, "one"))];
    assert.deepEqual([both.uid, both.gid, one.uid, one.gid], [7, 8, 0, 8]);
  });

  it("with attributes that no file system can hold are refused, and not for want of room", async () => {
    await assert.rejects(unpack([{ path: "f", pax: { "SCHILY.xattr.user.big": "x".repeat(70_000) } }]), {
      kind: "INTERNAL",
      message: /setxattr user\.big "f": its 70000 bytes are more than this file system has room for/,
    });
  });
});

describe("an archive without its end", () => {
  it("is whole, as far as its last file is", async () => {
    const archive = writeTar([{ path: "one" }, { path: "two", content: "abc" }]);
    const last = 2 * 512 + 3;
    for (const length of [last, last + 100, 3 * 512, 4 * 512]) {
      const { directory } = await unpackBytes(archive.subarray(0, length));
      assert.equal(await readFile(join(directory, "two"), "utf8"), "abc");
    }
    for (const length of [last - 1, last - 3, 512 + 100]) {
      await assert.rejects(unpackBytes(archive.subarray(0, length)), /the archive ends too early/);
    }
  });
});

describe("compressed streams", () => {
  const tar = writeTar([{ path: "a", content: "a".repeat(100_000) }]);

  it("takes several gzip members, in any pieces", async () => {
    const members = Buffer.concat([gzipSync(tar.subarray(0, 700)), gzipSync(tar.subarray(700)), Buffer.alloc(512)]);
    for (const size of [1, 7, members.length]) {
      const { layer } = await unpackBytes(members, size);
      assert.equal(layer.diffId, `sha256:${createHash("sha256").update(tar).digest("hex")}`);
    }
  });

  it("takes zstd, several frames of it", async () => {
    const { layer } = await unpackBytes(
      Buffer.concat([storedZstd(tar.subarray(0, 700)), storedZstd(tar.subarray(700))]),
    );
    assert.equal(layer.diffId, `sha256:${createHash("sha256").update(tar).digest("hex")}`);
    await assert.rejects(unpackBytes(storedZstd(tar).subarray(0, -1)), /ends too early/);
  });

  it("refuses a stream that was cut off or damaged", async () => {
    const whole = gzipSync(tar);
    for (const length of [3, 12, whole.length - 9, whole.length - 1]) {
      await assert.rejects(unpackBytes(whole.subarray(0, length)), /ends too early|no tar archive/);
    }
    const damaged = Buffer.from(whole);
    damaged[whole.length - 6] = (damaged[whole.length - 6] as number) ^ 1;
    await assert.rejects(unpackBytes(damaged), /damaged/);
    await assert.rejects(unpackBytes(Buffer.concat([whole, Buffer.from("tail")])), /follow the gzip stream/);
    await assert.rejects(unpackBytes(tar.subarray(0, 5000)), /ends too early/);
  });

  it("passes on what the source fails with, after the process has ended", async () => {
    const directory = await emptyDirectory();
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield tar.subarray(0, 1000);
      throw new RangeError("the source broke");
    };
    await assert.rejects(unpackLayer({ directory, source: source() }), RangeError);
  });
});

describe("whiteouts", () => {
  it("become overlayfs's own, in either order, and hide only what is below", async () => {
    const { directory } = await unpack([
      { path: "gone/.wh.file" },
      { path: "before", type: "directory" },
      { path: "before/own", content: "1" },
      { path: ".wh.before" },
      { path: ".wh.after" },
      { path: "after/own", content: "2" },
      { path: ".wh.file" },
      { path: "file", content: "new" },
      { path: "opaque/early", content: "3" },
      { path: "opaque/.wh..wh..opq" },
      { path: "opaque/late", content: "4" },
      { path: ".wh..wh.plnk/ignored", content: "5" },
    ]);
    assert.ok(isWhiteout(await lstat(join(directory, "gone/file"))));
    for (const name of ["before", "after", "opaque"]) {
      assert.equal(attributesOf(join(directory, name)).get("trusted.overlay.opaque"), "y", name);
    }
    assert.equal(attributesOf(join(directory, "gone")).get("trusted.overlay.opaque"), undefined);
    assert.equal(await readFile(join(directory, "before/own"), "utf8"), "1");
    assert.equal(await readFile(join(directory, "after/own"), "utf8"), "2");
    assert.equal(await readFile(join(directory, "file"), "utf8"), "new");
    assert.deepEqual((await readdir(join(directory, "opaque"))).sort(), ["early", "late"]);
    assert.deepEqual((await readdir(directory)).sort(), ["after", "before", "file", "gone", "opaque"]);
  });

  it("below what is a directory no more hide nothing", async () => {
    const { directory } = await unpack([
      { path: "was", content: "a file now" },
      { path: "was/.wh.inside" },
      { path: "was/.wh..wh..opq" },
    ]);
    assert.deepEqual(await readdir(directory), ["was"]);
    assert.equal(await readFile(join(directory, "was"), "utf8"), "a file now");
  });

  it("of the root directory hide all layers below, and not what is in this one", async () => {
    const { directory, layer } = await unpack([
      { path: "early", content: "1" },
      { path: ".wh..wh..opq" },
      { path: "late", content: "2" },
    ]);
    assert.equal(layer.rootIsOpaque, true);
    assert.equal(attributesOf(directory).get("trusted.overlay.opaque"), "y");
    assert.deepEqual((await readdir(directory)).sort(), ["early", "late"]);
    assert.equal((await unpack([{ path: "a/.wh..wh..opq" }])).layer.rootIsOpaque, false);
  });

  it("that name nothing or leave their directory are refused", async () => {
    await refuses([{ path: "a/.wh..." }], /names nothing/);
    await refuses([{ path: "a/.wh.." }], /names nothing/);
    await refuses([{ path: ".wh." }], /names nothing/);
  });
});

describe("hostile layers", () => {
  it("stay inside with ..", async () => {
    const { directory } = await unpack([
      { path: "../../../../../../../../victim-a", content: "x" },
      { path: "/etc/../../victim-b", content: "x" },
      { path: "a/../../../b", content: "x" },
    ]);
    assert.deepEqual((await readdir(directory)).sort(), ["b", "victim-a", "victim-b"]);
    assert.ok(!(await readdir("/")).some((name) => name.startsWith("victim")));
  });

  it("stay inside through links, absolute and relative", async () => {
    for (const link of [victim, `../../../../../../..${victim}`, "/"]) {
      const entries: TarEntry[] = [
        { path: "out", type: "symlink", link },
        { path: "out/canary", content: "overwritten", mode: 0o777 },
      ];
      const { directory } = await unpack(entries);
      // what is not there within the layer is made in it
      const place = join(directory, link === "/" ? "" : victim);
      assert.equal(await readFile(join(place, "canary"), "utf8"), "overwritten");
    }
  });

  it("cannot change a file through a hard link to a link (CVE-2021-32760)", async () => {
    const { directory } = await unpack([
      { path: "link", type: "symlink", link: join(victim, "canary") },
      { path: "hard", type: "hardlink", link: "link", mode: 0o777, uid: 1234 },
    ]);
    assert.ok((await lstat(join(directory, "hard"))).isSymbolicLink());
    await refuses([{ path: "hard", type: "hardlink", link: join(victim, "canary") }], /hard/);
    await refuses([{ path: "hard", type: "hardlink", link: "../../../../etc/passwd" }], /hard/);
  });

  it("go through links with .. also while others rename files, of which the kernel is not sure", async () => {
    const [one, other] = [join(base, "renamed"), join(base, "renamed-again")];
    await writeFile(one, "");
    const script = `const { renameSync } = require("fs"); const [a, b] = process.argv.slice(1);
      for (;;) { renameSync(a, b); renameSync(b, a); }`;
    const renaming = execFile(process.execPath, ["-e", script, one, other]);
    try {
      const entries: TarEntry[] = ["one", "two"].flatMap((name): TarEntry[] => [
        { path: `x/y/${name}`, type: "directory" },
        { path: `x/${name}`, type: "symlink", link: `../x/y/../y/${name}` },
      ]);
      // each of the two ways is looked up again and again
      const files = Array.from({ length: 4000 }, (_, i): TarEntry => ({ path: `x/${i % 2 ? "one" : "two"}/${i}` }));
      const { directory } = await unpack([...entries, ...files]);
      assert.equal((await readdir(join(directory, "x/y/one"))).length, 2000);
    } finally {
      renaming.kill("SIGKILL");
    }
  });

  it("replace rather than follow what has their name", async () => {
    const { directory } = await unpack([
      { path: "a", type: "symlink", link: join(victim, "canary") },
      { path: "a", content: "file" },
      { path: "b", type: "symlink", link: victim },
      { path: "b", type: "directory", mode: 0o777 },
      { path: "b/inside", content: "1" },
      { path: "c/deep/er", content: "1" },
      { path: "c", content: "now a file" },
      { path: "d", type: "symlink", link: victim },
      { path: "d", type: "fifo", mode: 0o777 },
    ]);
    assert.equal(await readFile(join(directory, "a"), "utf8"), "file");
    assert.equal(await readFile(join(directory, "b/inside"), "utf8"), "1");
    assert.equal(await readFile(join(directory, "c"), "utf8"), "now a file");
    assert.ok((await lstat(join(directory, "d"))).isFIFO());
  });

  it("cannot nest so deep that nobody could delete them", async () => {
    const deep = Array.from({ length: 12 }, () => "d".repeat(250)).join("/");
    const entries: TarEntry[] = [
      { path: deep, type: "directory" },
      { path: "link", type: "symlink", link: deep },
      { path: `link/${deep}`, type: "directory" },
      { path: "link2", type: "symlink", link: `link/${deep}` },
      { path: `link2/${deep}`, type: "directory" },
    ];
    await refuses(entries, /too deeply/);
    await refuses([{ path: "x/".repeat(2000), type: "directory" }], /longer than/);
    await refuses([{ path: "a", type: "symlink", link: "a" }, { path: "a/b" }], /errno 40/);
  });

  it("are refused with numbers out of range, unknown types and missing targets", async () => {
    await refuses([{ path: "a", pax: { uid: "4294967295" } }], /uid/);
    await refuses([{ path: "a", pax: { uid: "99999999999999999999" } }], /uid/);
    await refuses([{ path: "a", pax: { size: "-1" } }], /size/);
    await refuses([{ path: "a", pax: { size: "9000000000000000000" } }], /too large/);
    await refuses([{ path: "a", pax: { mtime: "soon" } }], /mtime/);
    await refuses([{ path: "a", type: "hardlink", link: "nowhere" }], /nowhere/);
    await refuses([{ path: "", content: "x" }], /root directory/);
    await refuses([{ path: "a", pax: { "GNU.sparse.map": "0,10,5,10", "GNU.sparse.size": "100" } }], /sparse/);
    await refuses(
      [{ path: "a", pax: { "GNU.sparse.map": "0,0", "GNU.sparse.size": "9000000000000000000" } }],
      /too large/,
    );
  });

  it("cannot fill the memory with an extended header", async () => {
    await refuses([{ path: "a", pax: { comment: "x".repeat(2_000_000) } }], /too long/);
  });
});

describe("directories that a layer does not describe", () => {
  it("are told, and look like those of the layers below", async () => {
    const lower = await unpack([
      { path: "etc", type: "directory", mode: 0o711, uid: 7, gid: 8, pax: { "SCHILY.xattr.user.note": "kept" } },
      { path: "etc/sub", type: "directory", mode: 0o1700 },
      { path: "linked", type: "symlink", link: victim },
    ]);
    const upper = await unpack([
      { path: "etc/sub/file", content: "1" },
      { path: "linked/file", content: "1" },
      { path: "new/file", content: "1" },
      { path: "described/file", content: "1" },
      { path: "described", type: "directory", mode: 0o750 },
    ]);
    assert.equal(upper.layer.rootIsImplicit, true);
    const { implicit } = upper.layer;
    assert.deepEqual(implicit.toString("utf8").split("\0").sort(), ["", "etc", "etc/sub", "linked", "new"]);
    const directories = { directory: upper.directory, lower: [lower.directory] };
    assert.equal(await native.inheritDirectories({ ...directories, paths: implicit, limitBytes: 0 }), 0);
    const etc = await lstat(join(upper.directory, "etc"));
    assert.deepEqual([etc.mode & 0o7777, etc.uid, etc.gid], [0o711, 7, 8]);
    assert.equal(attributesOf(join(upper.directory, "etc")).get("user.note"), "kept");
    assert.equal((await lstat(join(upper.directory, "etc/sub"))).mode & 0o7777, 0o1700);
    assert.equal((await lstat(join(upper.directory, "linked"))).mode & 0o7777, 0o755);
    assert.equal((await lstat(join(upper.directory, "new"))).mode & 0o7777, 0o755);
    assert.equal((await lstat(join(upper.directory, "described"))).mode & 0o7777, 0o750);
  });
});
