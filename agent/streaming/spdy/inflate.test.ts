import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { constants, createDeflate, createInflate, type ZlibOptions } from "node:zlib";
import { dictionary, dictionaryId } from "./dictionary.js";
import { HeaderReader, HeaderWriter } from "./headers.js";
import { InflateError, Inflater } from "./inflate.js";

/** Pieces of one stream, as zlib makes them. */
async function deflated(contents: Buffer[], options: ZlibOptions = {}): Promise<Buffer[]> {
  const deflate = createDeflate({ dictionary, ...options });
  const pieces: Buffer[] = [];
  for (const content of contents) {
    const parts: Buffer[] = [];
    const collect = (part: Buffer) => parts.push(part);
    deflate.on("data", collect);
    deflate.write(content);
    await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, resolve));
    deflate.off("data", collect);
    pieces.push(Buffer.concat(parts));
  }
  return pieces;
}

test("the dictionary is the specification's", () => {
  let [one, two] = [1, 0];
  for (const byte of dictionary) {
    one = (one + byte) % 65521;
    two = (two + one) % 65521;
  }
  assert.equal(((two << 16) | one) >>> 0, dictionaryId);
});

test("whatever zlib makes comes out again, at every level, over the whole life of a stream", async () => {
  const text = (count: number) =>
    Buffer.from(Array.from({ length: count }, (_, i) => `content-type: ${(i * i) % 97} keep-alive`).join("\n"));
  const contents = [
    Buffer.from("streamtype"),
    text(1),
    Buffer.alloc(0),
    randomBytes(700),
    text(40),
    Buffer.alloc(14_000, "ab"),
    randomBytes(15_000),
    ...Array.from({ length: 30 }, (_, i) => text(i * 10)),
  ];
  for (const options of [
    { level: 0 },
    { level: 1 },
    { level: 9 },
    { strategy: constants.Z_FIXED },
    { strategy: constants.Z_HUFFMAN_ONLY },
  ]) {
    const inflater = new Inflater();
    for (const [index, piece] of (await deflated(contents, options)).entries()) {
      assert.deepEqual(inflater.inflate(piece, 16 * 1024), contents[index]);
    }
  }
});

test("what would be longer than the limit is refused before it is made", async () => {
  const [bomb = Buffer.alloc(0)] = await deflated([Buffer.alloc(10_000_000)]);
  assert.ok(bomb.length < 16_384);
  assert.throws(() => new Inflater().inflate(bomb, 16_384), InflateError);
});

test("malformed streams are refused", async () => {
  const [piece = Buffer.alloc(0)] = await deflated([Buffer.from("some text, and some text")]);
  for (const broken of ["", "78", "789c", "78bb00000000", "7800"]) {
    assert.throws(() => {
      const output = new Inflater().inflate(Buffer.from(broken, "hex"), 1_000);
      // an empty piece of a stream that has not begun is cut off, too
      assert.ok(output.length > 0);
    }, InflateError);
  }
  for (let at = 0; at < piece.length; at++) {
    const changed = Buffer.from(piece);
    changed[at] = (changed[at] ?? 0) ^ 0x55;
    try {
      new Inflater().inflate(changed, 1_000);
    } catch (error) {
      assert.ok(error instanceof InflateError);
    }
  }
});

test("what the writer makes, zlib and the reader read", async () => {
  const writer = new HeaderWriter();
  const reader = new HeaderReader();
  const inflate = createInflate({ dictionary });
  for (const headers of [
    new Map(),
    new Map([["streamtype", "error"]]),
    new Map([
      ["a", "1"],
      ["b", ""],
    ]),
  ]) {
    const block = writer.write(headers);
    assert.deepEqual(reader.read(block), headers);
    const content = await new Promise<Buffer>((resolve, reject) => {
      inflate.once("data", resolve).once("error", reject);
      inflate.write(block);
    });
    assert.equal(content.readUInt32BE(0), headers.size);
  }
});
