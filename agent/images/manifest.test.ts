import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NotFoundError } from "../../sandbox/errors.js";
import { chainIdsOf, digestOf } from "./digest.js";
import { choosePlatform, type Descriptor, parseManifest } from "./manifest.js";
import { hostPlatform, platformFit } from "./platform.js";

const digest = (n: number): string => `sha256:${String(n).padStart(64, "0")}`;
const imageType = "application/vnd.oci.image.manifest.v1+json";
const parse = (value: unknown, type = imageType) => parseManifest(Buffer.from(JSON.stringify(value)), type, "x:1");

describe("manifests", () => {
  const config = { mediaType: "application/vnd.oci.image.config.v1+json", digest: digest(1), size: 10 };
  const layer = (mediaType: string) => ({ mediaType, digest: digest(2), size: 20 });

  it("of the OCI and of Docker are read", () => {
    for (const type of [
      "application/vnd.oci.image.layer.v1.tar",
      "application/vnd.oci.image.layer.v1.tar+gzip",
      "application/vnd.oci.image.layer.v1.tar+zstd",
      "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
      "application/vnd.docker.image.rootfs.diff.tar.gzip",
      "application/vnd.docker.image.rootfs.diff.tar",
      "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ]) {
      const manifest = parse({ schemaVersion: 2, config, layers: [layer(type)] });
      assert.equal(manifest.kind, "image");
    }
  });

  it("are refused with a sentence that names the field", () => {
    const refuses = (value: unknown, message: RegExp): void => {
      assert.throws(() => parse(value), message);
    };
    refuses({ schemaVersion: 1 }, /x:1 has Docker's schema 1/);
    refuses({ schemaVersion: 3 }, /schemaVersion/);
    refuses([], /no JSON object/);
    refuses({ schemaVersion: 2, layers: [] }, /"config"/);
    refuses({ schemaVersion: 2, config }, /"layers"/);
    refuses({ schemaVersion: 2, config: { ...config, size: -1 }, layers: [] }, /size in config/);
    refuses({ schemaVersion: 2, config: { ...config, size: 5e6 }, layers: [] }, /more than 4 MiB/);
    refuses({ schemaVersion: 2, config: { ...config, digest: "sha256:1" }, layers: [] }, /digest in config/);
    refuses({ schemaVersion: 2, config, layers: [layer("application/vnd.helm.chart")] }, /no container image/);
    refuses({ schemaVersion: 2, config, layers: Array(501).fill(layer("x")) }, /more than 500/);
  });

  it("of an index are chosen by platform, the best variant first", () => {
    const entry = (n: number, platform?: Descriptor["platform"]): Descriptor => ({
      mediaType: imageType,
      digest: digest(n),
      size: 1,
      annotations: n === 9 ? { "vnd.docker.reference.type": "attestation-manifest" } : {},
      ...(platform && { platform }),
    });
    const arm = { os: "linux", architecture: "arm" };
    const manifests = [
      entry(9),
      entry(1, { ...arm, variant: "v5" }),
      entry(2, { ...arm, variant: "v7" }),
      entry(3, { ...arm, variant: "v8" }),
      entry(4, { os: "linux", architecture: "amd64" }),
      entry(5, { os: "windows", architecture: "amd64" }),
    ];
    assert.equal(choosePlatform(manifests, { ...arm, variant: "v7" }, "x").digest, digest(2));
    assert.equal(choosePlatform(manifests, { ...arm, variant: "v6" }, "x").digest, digest(1));
    assert.equal(choosePlatform(manifests, { os: "linux", architecture: "amd64" }, "x").digest, digest(4));
    assert.equal(choosePlatform([entry(9), entry(6)], hostPlatform(), "x").digest, digest(6));
    assert.throws(() => choosePlatform(manifests, { os: "linux", architecture: "s390x" }, "x"), NotFoundError);
    assert.throws(() => choosePlatform([], hostPlatform(), "x"), /none at all/);
  });

  it("fit platforms", () => {
    assert.equal(platformFit({ os: "linux", architecture: "amd64", variant: "v3" }, hostPlatform("x64")), 0);
    assert.ok(platformFit({ os: "linux", architecture: "arm64", variant: "v8" }, hostPlatform("arm64")) > 0);
  });

  it("chain ids follow the specification", () => {
    assert.deepEqual(chainIdsOf([digest(1), digest(2), digest(3)]), [
      digest(1),
      digestOf(`${digest(1)} ${digest(2)}`),
      digestOf(`${digestOf(`${digest(1)} ${digest(2)}`)} ${digest(3)}`),
    ]);
  });
});
