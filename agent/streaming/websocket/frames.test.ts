import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameParser, Opcode, putHeader, WebSocketError } from "./frames.js";

/** What a parser tells of the bytes, cut into pieces of a size. */
function parse(bytes: Buffer, pieceBytes = bytes.length): string[] {
  const told: string[] = [];
  const parser = new FrameParser(true, {
    begin: (binary) => told.push(binary ? "binary" : "text"),
    data: (part) => told.push(`+${part.toString("latin1")}`),
    end: () => told.push("end"),
    control: (opcode, payload) => told.push(`${opcode}:${payload.toString("latin1")}`),
  });
  for (let at = 0; at < bytes.length; at += pieceBytes) parser.push(Buffer.from(bytes.subarray(at, at + pieceBytes)));
  // parts of one message, however they were cut
  return told.reduce<string[]>((list, word) => {
    const last = list.at(-1);
    if (word.startsWith("+") && last?.startsWith("+")) list[list.length - 1] = last + word.slice(1);
    else list.push(word);
    return list;
  }, []);
}

/** A frame as RFC 6455, section 5.2 draws it. */
function frame(first: number, payload: string, mask: number[] | null = [0x37, 0xfa, 0x21, 0x3d]): Buffer {
  const bytes = Buffer.from(payload, "latin1");
  const bit = mask === null ? 0 : 0x80;
  const length =
    bytes.length < 126
      ? [bit | bytes.length]
      : bytes.length < 65536
        ? [bit | 126, bytes.length >> 8, bytes.length & 255]
        : [
            bit | 127,
            0,
            0,
            0,
            0,
            bytes.length >>> 24,
            (bytes.length >> 16) & 255,
            (bytes.length >> 8) & 255,
            bytes.length & 255,
          ];
  const body = mask === null ? bytes : bytes.map((byte, at) => byte ^ (mask[at & 3] as number));
  return Buffer.concat([Buffer.from([first, ...length, ...(mask ?? [])]), body]);
}

test("the RFC's own example", () => {
  assert.deepEqual(parse(Buffer.from("818537fa213d7f9f4d5158", "hex")), ["text", "+Hello", "end"]);
});

test("messages of all lengths, however they are cut", () => {
  for (const length of [0, 1, 125, 126, 127, 65535, 65536, 70_001]) {
    const text = "abcdefg".repeat(length / 7 + 1).slice(0, length);
    const bytes = Buffer.concat([frame(0x82, text), frame(0x81, "z")]);
    const expected = ["binary", ...(length > 0 ? [`+${text}`] : []), "end", "text", "+z", "end"];
    for (const piece of length < 1000 ? [1, 2, 3, 7, 1000] : [4096, 65536, 100_000]) {
      assert.deepEqual(parse(bytes, piece), expected);
    }
  }
});

test("fragments, with a ping in between", () => {
  const bytes = Buffer.concat([frame(0x02, "one "), frame(0x89, "hi"), frame(0x00, "two "), frame(0x80, "three")]);
  assert.deepEqual(parse(bytes), ["binary", "+one ", "9:hi", "+two three", "end"]);
});

test("what breaks the rules is refused", () => {
  const refused: [Buffer, RegExp][] = [
    [frame(0x82, "x", null), /not masked/],
    [frame(0xc2, "x"), /extension/],
    [frame(0x83, "x"), /opcode 3/],
    [frame(0x8b, "x"), /opcode 11/],
    [frame(0x09, "x"), /fragmented/],
    [frame(0x89, "x".repeat(126)), /125/],
    [frame(0x80, "x"), /no message/],
    [Buffer.concat([frame(0x02, "x"), frame(0x82, "y")]), /within another/],
    [Buffer.from("82ffffffffffffffffff00000000", "hex"), /impossible length/],
  ];
  for (const [bytes, message] of refused) {
    assert.throws(
      () => parse(bytes, 1),
      (error) => error instanceof WebSocketError && error.code === 1002 && message.test(error.message),
    );
  }
});

test("a frame's header stands right before its content", () => {
  for (const length of [0, 125, 126, 65535, 65536]) {
    const buffer = Buffer.alloc(32 + length, "x");
    const at = putHeader(buffer, 32, buffer.length, Opcode.binary);
    assert.deepEqual(buffer.subarray(at, 32), frame(0x82, "x".repeat(length), null).subarray(0, 32 - at));
  }
});
