/** Layers that lie, flood or lead astray, and the cage of the process that has to read them. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { lstat, mkdir, readdir, readFile, readlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { BerthError } from "../../sandbox/errors.js";
import { type UnpackedLayer, unpackLayer } from "../../sandbox/rootfs/unpack-layer.js";
import { digestOf } from "../support/image-builder.js";
import { type TarEntry, writeTar } from "../support/tar-writer.js";
import { unpackers } from "../support/unpackers.js";

let base: string;
let serial = 0;

before(() => {
  base = mkdtempSync(join(tmpdir(), "berth-hostile-"));
});
after(() => rmSync(base, { recursive: true, force: true }));

async function unpack(bytes: Uint8Array): Promise<{ directory: string; layer: UnpackedLayer }> {
  const directory = join(base, `${++serial}`);
  await mkdir(directory);
  const source = async function* (): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 1 << 20) yield bytes.subarray(at, at + (1 << 20));
  };
  return { directory, layer: await unpackLayer({ directory, source: source() }) };
}

const unpackEntries = (entries: TarEntry[]) => unpack(writeTar(entries));

async function refuses(bytes: Uint8Array, sentence: RegExp): Promise<void> {
  await assert.rejects(unpack(bytes), (error) => {
    assert.ok(error instanceof BerthError, String(error));
    assert.match(error.message, sentence);
    return true;
  });
}

/** A header of its own making: fields as bytes, by offset. */
function rawEntry(type: string, name: string, fields: [offset: number, bytes: string | Buffer][]): Buffer {
  const archive = writeTar([{ path: name }]).subarray(0, 512);
  archive.write(type, 156, "latin1");
  for (const [offset, bytes] of fields) Buffer.from(bytes as string, "latin1").copy(archive, offset);
  archive.write("        ", 148, "latin1");
  const sum = archive.reduce((total, byte) => total + byte, 0);
  archive.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return archive;
}

const zeros = Buffer.alloc(1024);
const base256 = (value: bigint, bytes: number): Buffer => {
  const field = Buffer.alloc(bytes);
  for (let i = bytes - 1, rest = value; i >= 0; i--, rest >>= 8n) field[i] = Number(rest & 0xffn);
  field[0] = (field[0] ?? 0) | 0x80;
  return field;
};

describe("the process that unpacks a layer", () => {
  it("is alone: one mount, no network, three descriptors, few capabilities, no new privileges, a filter, a memory limit", async () => {
    const directory = join(base, `${++serial}`);
    await mkdir(directory);
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const archive = writeTar([{ path: "dir", type: "directory" }, { path: "dir/file" }]);
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield archive.subarray(0, 700);
      await ended;
      yield archive.subarray(700);
    };
    const layer = unpackLayer({ directory, source: source() });
    try {
      let pid = 0;
      const status = (): string => readFileSync(`/proc/${pid}/status`, "utf8");
      const isCaged = (): boolean => {
        pid = unpackers(directory)[0] ?? 0;
        if (pid === 0 || !/^Seccomp:\t2$/m.test(status())) return false;
        return readdirSync(`/proc/${pid}/root`).join() === "dir";
      };
      for (const limit = Date.now() + 20_000; !isCaged(); await sleep(10)) assert.ok(Date.now() < limit, "no filter");
      const said = status();
      assert.match(said, /^NoNewPrivs:\t1$/m);
      // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP, SYS_ADMIN (for trusted.overlay.*)
      for (const set of ["CapPrm", "CapEff", "CapBnd"])
        assert.match(said, new RegExp(`^${set}:\t000000008820001b$`, "m"));
      for (const set of ["CapInh", "CapAmb"]) assert.match(said, new RegExp(`^${set}:\t0{16}$`, "m"));
      for (const namespace of ["mnt", "net", "ipc", "uts"]) {
        assert.notEqual(readlinkSync(`/proc/${pid}/ns/${namespace}`), readlinkSync(`/proc/self/ns/${namespace}`));
      }
      assert.equal(readFileSync(`/proc/${pid}/mountinfo`, "utf8").trim().split("\n").length, 1);
      assert.deepEqual(readdirSync(`/proc/${pid}/fd`).filter((fd) => Number(fd) < 3).length, 3);
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        const target = readlinkSync(`/proc/${pid}/fd/${fd}`);
        assert.ok(Number(fd) < 3 ? target.startsWith("pipe:") : target.startsWith("/"), `${fd}: ${target}`);
      }
      const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
      assert.match(limits, /^Max address space +1073741824 +1073741824/m);
      assert.match(limits, /^Max core file size +0 +0/m);
      assert.equal(readFileSync(`/proc/${pid}/environ`, "utf8"), "");
    } finally {
      end();
    }
    assert.equal((await layer).inodes, 3);
    assert.deepEqual(unpackers(directory), []);
  });
});

describe("a layer that floods", () => {
  it("with entries for one name: the last one counts, what it makes is bounded", async () => {
    const many = Array.from({ length: 5_000 }, (_, i): TarEntry => ({ path: "f", content: String(i) }));
    const { directory } = await unpackEntries(many);
    assert.deepEqual(await readdir(directory), ["f"]);
    assert.equal(await readFile(join(directory, "f"), "utf8"), "4999");
  });

  it("with global headers, which hold for all that follow", async () => {
    const records = Array.from({ length: 1_100 }, (_, i) => `13 key${String(i).padStart(4, "0")}=v\n`);
    const text = Buffer.from(records.join(""));
    const padded = Buffer.concat([text, Buffer.alloc((512 - (text.length % 512)) % 512)]);
    const size = `${text.length.toString(8).padStart(11, "0")}\0`;
    await refuses(Buffer.concat([rawEntry("g", "global", [[124, size]]), padded, zeros]), /too many records/);
  });

  it("with a million zeros in a thousand bytes, which is no harm", async () => {
    const bytes = writeTar([{ path: "zeros", content: Buffer.alloc(8_000_000) }]);
    const { directory, layer } = await unpack(gzipSync(bytes));
    assert.equal((await lstat(join(directory, "zeros"))).size, 8_000_000);
    assert.equal(layer.diffId, digestOf(bytes));
  });
});

describe("a layer that lies", () => {
  it("of sizes: in octal, in base 256, in a pax header", async () => {
    for (const size of [base256(1n << 62n, 12), base256((1n << 63n) - 1n, 12), "77777777777\0"]) {
      await refuses(Buffer.concat([rawEntry("0", "f", [[124, size]]), zeros]), /too large|ends too early/);
    }
    await refuses(Buffer.concat([rawEntry("0", "f", [[124, Buffer.alloc(12, 0xff)]]), zeros]), /negative/);
    await refuses(Buffer.concat([rawEntry("0", "f", [[124, Buffer.alloc(12, 0x7f)]]), zeros]), /no octal number/);
    await refuses(writeTar([{ path: "f", content: "abc", pax: { size: "100000" } }]), /ends too early|checksum/);
  });

  it("of sparse maps: out of order, beyond the file, more or less than is stored, without a size", async () => {
    const file = (map: string, size: string | undefined): Buffer =>
      writeTar([
        { path: "s", content: "01234", pax: { "GNU.sparse.map": map, ...(size && { "GNU.sparse.size": size }) } },
      ]);
    for (const map of ["5,3,0,2", "0,3,2,2", "98,5", "0,4", "0,6", "18446744073709551615,5"]) {
      await refuses(file(map, "100"), /sparse|GNU\.sparse\.map/);
    }
    await refuses(file("0,5", undefined), /no size/);
    const { directory } = await unpack(file("0,2,97,3", "100"));
    const content = await readFile(join(directory, "s"));
    assert.deepEqual(
      [content.length, content.toString("latin1", 0, 2), content.toString("latin1", 97)],
      [100, "01", "234"],
    );
  });

  it("of the lengths of pax records", async () => {
    for (const text of ["999 path=x\n", "5 path=x\n", "0 =\n", "path=x\n", "8 =xyz\n\n", "11 path=abc", "-1 a=b\n"]) {
      const size = `${text.length.toString(8).padStart(11, "0")}\0`;
      const body = Buffer.alloc(512);
      body.write(text, "latin1");
      await refuses(Buffer.concat([rawEntry("x", "pax", [[124, size]]), body, zeros]), /extended header/);
    }
  });

  it("of its device numbers, types and sums", async () => {
    await refuses(Buffer.concat([rawEntry("3", "d", [[329, Buffer.alloc(8, 0xff)]]), zeros]), /device number/);
    for (const type of ["9", "Z", "M", "N"])
      await refuses(Buffer.concat([rawEntry(type, "t", []), zeros]), /not known/);
    const wrong = rawEntry("0", "f", []);
    wrong[0] = 0x67;
    await refuses(Buffer.concat([wrong, zeros]), /checksum/);
  });

  it("of how much memory its compression needs, and of where it ends", async () => {
    // a frame of zstd with a window of two gigabytes
    await refuses(Buffer.from("28b52ffd00a8010000", "hex"), /too much memory/);
    const whole = gzipSync(writeTar([{ path: "f", content: "x" }]));
    await refuses(whole.subarray(0, whole.length - 9), /too early|damaged/);
    await refuses(whole.subarray(0, 12), /too early|damaged/);
    await refuses(Buffer.concat([whole, Buffer.from("garbage")]), /follow the gzip stream/);
    const damaged = Buffer.from(whole);
    damaged[damaged.length - 5] = (damaged[damaged.length - 5] ?? 0) ^ 1;
    await refuses(damaged, /damaged/);
    // behind the archive's end anything may stand: it counts for the digest, and for nothing else
    const tail = Buffer.concat([writeTar([{ path: "f" }]), Buffer.from("behind the end".repeat(100))]);
    const { directory, layer } = await unpack(tail);
    assert.equal(layer.diffId, digestOf(tail));
    assert.deepEqual(await readdir(directory), ["f"]);
  });
});

describe("a layer that leads astray", () => {
  it("by names: with newlines, of any bytes, with NUL, of more than 255 bytes", async () => {
    const { directory } = await unpackEntries([{ path: "new\nline" }, { path: 'quo"te\\' }, { path: "\u0001\u007f" }]);
    assert.deepEqual((await readdir(directory)).sort(), ["\u0001\u007f", "new\nline", 'quo"te\\']);
    await refuses(writeTar([{ path: "f", pax: { path: "a\0b" } }]), /NUL/);
    await refuses(writeTar([{ path: "f", type: "symlink", pax: { linkpath: "a\0b" } }]), /NUL/);
    await refuses(writeTar([{ path: "n".repeat(256) }]), /errno 36/);
    await refuses(writeTar([{ path: "bad\nname/".repeat(2), type: "hardlink", link: "gone\n" }]), /gone\n/);
  });

  it("by links: to later entries, to directories, to the root, to itself, in circles, through one another", async () => {
    await refuses(writeTar([{ path: "l", type: "hardlink", link: "later" }, { path: "later" }]), /later/);
    await refuses(
      writeTar([
        { path: "d", type: "directory" },
        { path: "l", type: "hardlink", link: "d" },
      ]),
      /errno 1\b/,
    );
    await refuses(writeTar([{ path: "l", type: "hardlink", link: "/" }]), /root directory/);
    const circle: TarEntry[] = [
      { path: "a", type: "symlink", link: "b" },
      { path: "b", type: "symlink", link: "a" },
    ];
    await refuses(writeTar([...circle, { path: "a/f" }]), /errno 40/);
    const { directory } = await unpackEntries([
      ...circle,
      { path: "f", content: "1" },
      { path: "f", type: "hardlink", link: "f" },
      { path: "up", type: "symlink", link: "../../../../.." },
      { path: "up/made", content: "2" },
      { path: "h", type: "hardlink", link: "a" },
    ]);
    assert.equal(await readFile(join(directory, "f"), "utf8"), "1");
    assert.equal(await readFile(join(directory, "made"), "utf8"), "2");
    assert.equal(await readlink(join(directory, "h")), "b");
  });

  it("by exchanging what is there: a directory for a link, a link for a file, a whiteout for a directory", async () => {
    const { directory } = await unpackEntries([
      { path: "x/f", content: "1" },
      { path: "x", type: "symlink", link: "/etc" },
      { path: "x", content: "a file" },
      { path: "y/.wh.z" },
      { path: "y/z/f", content: "2" },
      { path: "y/z", type: "fifo" },
    ]);
    assert.equal(await readFile(join(directory, "x"), "utf8"), "a file");
    assert.ok((await lstat(join(directory, "y/z"))).isFIFO());
    assert.deepEqual((await readdir(directory)).sort(), ["x", "y"]);
  });
});
