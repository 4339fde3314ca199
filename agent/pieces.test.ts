import assert from "node:assert/strict";
import { test } from "node:test";
import { runtime } from "../cri-proto/generated/runtime.js";
import { inPieces } from "./pieces.js";

function sizes(images: { id: string; repo_tags?: string[] }[]): number[] {
  const pieces = [...inPieces(images, runtime.v1.Image)];
  assert.deepEqual(pieces.flat(), images);
  return pieces.map((piece) => piece.length);
}

test("images come in pieces of a bounded number", () => {
  const images = (count: number) => Array.from({ length: count }, (_, n) => ({ id: `sha256:${n}` }));
  assert.deepEqual(sizes(images(450)), [200, 200, 50]);
  assert.deepEqual(sizes(images(200)), [200]);
  assert.deepEqual(sizes([]), []);
});

test("and of bounded bytes; one that is larger comes by itself", () => {
  const image = (id: string, kilobytes: number) => ({ id, repo_tags: Array(kilobytes).fill("t".repeat(1024)) });
  assert.deepEqual(sizes([image("a", 400), image("b", 400), image("c", 400)]), [2, 1]);
  assert.deepEqual(sizes([image("a", 10), image("b", 3000), image("c", 10)]), [1, 1, 1]);
});
