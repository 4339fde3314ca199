import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { matchesImage, parseImagePatterns } from "./image-patterns.js";
import type { ImageRecord } from "./image-store.js";

const digest = `docker.io/library/busybox@sha256:${"ab".repeat(32)}`;
const image = { repoTags: ["docker.io/library/busybox:1"], repoDigests: [digest] } as unknown as ImageRecord;

describe("names of images in settings", () => {
  for (const [text, matches] of [
    ["", false],
    ["busybox:1", true],
    ["busybox", false],
    ["other, busybox:1", true],
    [digest, true],
    ["docker.io/library/*", true],
    ["busybox*", false],
    ["quay.io/*", false],
  ] as const) {
    it(`"${text.slice(0, 30)}" ${matches ? "matches" : "does not match"}`, () => {
      assert.equal(matchesImage(parseImagePatterns(text), image), matches);
    });
  }

  it("are refused when they are none", () => {
    for (const text of ["*", "a*b", "UPPER", "a,,b:!"]) {
      assert.throws(() => parseImagePatterns(text), InvalidArgumentError, text);
    }
  });
});
