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
    [`busybox@sha512:${"ab".repeat(64)}`, `docker.io/library/busybox@sha512:${"ab".repeat(64)}`],
    [`r.example/a@sha384:${"ab".repeat(48)}`, `r.example/a@sha384:${"ab".repeat(48)}`],
    ["[2001:db8::1]/app", "[2001:db8::1]/app:latest"],
    ["[2001:DB8:0:0::1]:443/app:v1", "[2001:DB8:0:0::1]:443/app:v1"],
    ["localhost:5000", "docker.io/library/localhost:5000"],
    [`r.example/${"x".repeat(255)}`, `r.example/${"x".repeat(255)}:latest`],
    [`r.example/${"0".repeat(64)}`, `r.example/${"0".repeat(64)}:latest`],
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

  for (const [text, why] of [
    ["", /is empty/],
    ["Busybox", /must be lowercase/],
    ["busybox:", /"" is no tag/],
    ["busybox:-x", /"-x" is no tag/],
    [`busybox:${"t".repeat(129)}`, /is no tag/],
    ["busybox@sha256:abc", /no sha256 digest of 64 lowercase/],
    [`busybox@sha256:${"AB".repeat(32)}`, /no sha256 digest of 64 lowercase/],
    [`busybox@sha512:${"ab".repeat(32)}`, /no sha512 digest of 128 lowercase/],
    [`busybox@md5:${"0".repeat(32)}`, /by "md5", and only sha256/],
    ["busybox@x", /no digest, as sha256/],
    [`busybox@${digest}@${digest}`, /no sha256 digest/],
    ["0123456789abcdef".repeat(4), /are an id, and no name/],
    ["a//b", /is empty/],
    ["/a", /is empty/],
    ["a/", /is empty/],
    ["a/../b", /"\.\." is no name/],
    ["a b", /"a b" is no name/],
    ["https://docker.io/busybox", /begins with "https:\/\/"/],
    ["host:port/app", /"port" is no port/],
    ["host:/app", /"" is no port/],
    ["host:0/app", /"0" is no port/],
    ["host:65536/app", /"65536" is no port/],
    ["[::1/app", /"\[::1" is no registry host/],
    ["[::1]x/app", /"\[::1\]x" is no registry host/],
    ["[1.2.3.4]/app", /"\[1\.2\.3\.4\]" is no registry host/],
    ["[fe80::1%eth0]/app", /is no registry host/],
    ["-a.example/b", /is no registry host/],
    ["a.b/C", /must be lowercase/],
    ["-a", /"-a" is no name/],
    [`r.example/${"x".repeat(256)}`, /longer than 255/],
    ["ä", /"ä" is no name/],
  ] as const) {
    it(`refuses "${text.slice(0, 40)}"`, () => {
      assert.throws(
        () => parseReference(text),
        (error) => {
          assert.ok(error instanceof InvalidArgumentError);
          assert.match(error.message, why);
          return true;
        },
      );
    });
  }
});
