import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { formatName, formatReference, parseReference } from "./reference.js";

const digest = `sha256:${"0123456789abcdef".repeat(4)}`;

describe("references", () => {
  for (const [text, complete] of [
    ["busybox", "docker.io/library/busybox:latest"],
    ["busybox:1.36", "docker.io/library/busybox:1.36"],
    ["team/app", "docker.io/team/app:latest"],
    ["docker.io/busybox", "docker.io/library/busybox:latest"],
    ["index.docker.io/library/busybox:1", "docker.io/library/busybox:1"],
    ["localhost/app", "localhost/app:latest"],
    ["localhost:5000/app:2", "localhost:5000/app:2"],
    ["127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"],
    ["[::1]:5000/app:v1", "[::1]:5000/app:v1"],
    ["registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"],
    ["Registry.Example/app", "Registry.Example/app:latest"],
    [`busybox@${digest}`, `docker.io/library/busybox@${digest}`],
    [`ghcr.io/a/b:tag@${digest}`, `ghcr.io/a/b@${digest}`],
    ["a__b/c.d_e-f--g:T.a-g_1", "docker.io/a__b/c.d_e-f--g:T.a-g_1"],
  ] as const) {
    it(`completes ${text}`, () => {
      assert.equal(formatReference(parseReference(text)), complete);
      assert.equal(formatReference(parseReference(complete)), complete);
    });
  }

  it("gives the name alone", () => {
    assert.equal(formatName(parseReference("busybox:1")), "docker.io/library/busybox");
  });

  for (const text of [
    "",
    "Busybox",
    "busybox:",
    "busybox:-x",
    `busybox:${"t".repeat(129)}`,
    "busybox@sha256:abc",
    `busybox@md5:${"0".repeat(32)}`,
    "a//b",
    "/a",
    "a/",
    "a/../b",
    "a b",
    "https://docker.io/busybox",
    "host:port/app",
    "[::1/app",
    "a.b/C",
    "-a",
    "x".repeat(256),
    "ä",
  ]) {
    it(`refuses "${text.slice(0, 40)}"`, () => {
      assert.throws(() => parseReference(text), InvalidArgumentError);
    });
  }
});
