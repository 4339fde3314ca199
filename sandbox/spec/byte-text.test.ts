import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { bytesToText, textToBytes } from "./byte-text.js";

const there = (bytes: Uint8Array) => Buffer.from(textToBytes(JSON.parse(JSON.stringify(bytesToText(bytes))) as string));

test("bytes come back whatever they are, also through JSON", () => {
  for (const hex of [
    "",
    "00ff",
    "80",
    "c3",
    "c328",
    "e28228",
    "f0288cbc",
    "eda080edb080",
    "c0af",
    "f09f98",
    "61ff62",
  ]) {
    assert.equal(there(Buffer.from(hex, "hex")).toString("hex"), hex);
  }
  for (let length = 0; length < 300; length++) {
    const bytes = randomBytes(length);
    assert.equal(there(bytes).toString("hex"), bytes.toString("hex"));
  }
});

test("text is itself", () => {
  for (const text of ["", "plain", "größer 日本 😀", "\u0000\uffff\ufffd"]) {
    assert.equal(bytesToText(Buffer.from(text)), text);
    assert.equal(Buffer.from(textToBytes(text)).toString(), text);
  }
  assert.equal(bytesToText(Buffer.concat([Buffer.from("😀"), Buffer.of(0xff)])), "😀\udcff");
});
