import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NotFoundError } from "../../sandbox/errors.js";
import { chainIdsOf, digestOf } from "./digest.js";
import { choosePlatform, type Descriptor, findImage, parseManifest } from "./manifest.js";
import { amd64Level, hostPlatform, type Platform, platformFit } from "./platform.js";

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

  it("of images without layers are read, whichever way that is said", () => {
    for (const layers of [[], null]) {
      const manifest = parse({ schemaVersion: 2, config, layers });
      assert.deepEqual(manifest.kind === "image" && manifest.layers, []);
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
    refuses(
      { schemaVersion: 2, config, layers: [layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")] },
      /keys/,
    );
    refuses({ schemaVersion: 2, config, layers: [], manifests: [] }, /manifests, too/);
    assert.throws(
      () => parse({ schemaVersion: 2, layers: [], manifests: [] }, "application/vnd.oci.image.index.v1+json"),
      /layers, too/,
    );
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
    const artifact = { ...entry(7), artifactType: "application/vnd.example.signature" };
    assert.equal(choosePlatform([artifact, entry(6)], hostPlatform(), "x").digest, digest(6));
    assert.throws(() => choosePlatform(manifests, { os: "linux", architecture: "s390x" }, "x"), NotFoundError);
    assert.throws(() => choosePlatform([], hostPlatform(), "x"), /none at all/);
  });

  it("of an index that lead to no image for this machine give way to the next", async () => {
    const indexType = "application/vnd.oci.image.index.v1+json";
    const documents = new Map<string, object>();
    const add = (mediaType: string, document: object, platform?: Descriptor["platform"]): Descriptor => {
      const name = digest(documents.size + 1);
      documents.set(name, { schemaVersion: 2, mediaType, ...document });
      return { mediaType, digest: name, size: 1, annotations: {}, ...(platform && { platform }) };
    };
    const image = (type = "application/vnd.oci.image.layer.v1.tar") => ({ config, layers: [layer(type)] });
    const index = (...manifests: Descriptor[]) => add(indexType, { manifests });
    const host = { os: "linux", architecture: "riscv64" };
    const own = add(imageType, image(), host);
    const foreign = add(imageType, image(), { os: "linux", architecture: "s390x" });
    const artifact = add(imageType, image("text/spdx"));
    const noConfiguration = add(imageType, {
      config: { ...config, mediaType: "application/vnd.oci.empty.v1+json" },
      layers: [],
    });
    const find = async (from: Descriptor) => {
      const read = async ({ digest: name }: Descriptor) => parse(documents.get(name));
      const platformOf = () => assert.fail("every index tells the platforms, or has one entry");
      const { way } = await findImage(await read(from), host, "x:1", { read, platformOf });
      return way.map((entry) => entry.digest);
    };
    for (const beside of [foreign, artifact, noConfiguration, index(foreign), index(index(foreign), artifact)]) {
      const nested = index(own);
      assert.deepEqual(await find(index(beside, nested)), [nested.digest, own.digest]);
      await assert.rejects(find(index(beside)), /s390x|no container image/);
    }
    await assert.rejects(find(index(...Array(40).fill(index(foreign)), index(own))), NotFoundError);
    await assert.rejects(find(index(index(index(index(index(own)))))), /deep/);
    await assert.rejects(find(index(add(imageType, { config: {}, layers: [] }), index(own))), /config/);
  });

  it("of an index without platforms are chosen by their configurations, no more of which are read than are needed", async () => {
    const indexType = "application/vnd.oci.image.index.v1+json";
    const host = { os: "linux", architecture: "amd64", variant: "v2" };
    const documents = new Map<string, object>();
    const add = (mediaType: string, document: object): Descriptor => {
      const name = digest(documents.size + 100);
      documents.set(name, { schemaVersion: 2, mediaType, ...document });
      return { mediaType, digest: name, size: 1, annotations: {} };
    };
    const platforms = new Map<string, Platform | undefined>();
    const image = (platform?: Partial<Platform>): Descriptor => {
      const name = digest(platforms.size + 500);
      platforms.set(name, platform && { os: "linux", architecture: "amd64", ...platform });
      return add(imageType, { config: { ...config, digest: name }, layers: [] });
    };
    let asked = 0;
    const find = async (...manifests: Descriptor[]) => {
      asked = 0;
      const read = async ({ digest: name }: Descriptor) => parse(documents.get(name));
      const platformOf = async (found: { config: Descriptor }) => {
        asked++;
        return platforms.get(found.config.digest);
      };
      const from = parse({ schemaVersion: 2, mediaType: indexType, manifests });
      return (await findImage(from, host, "x:1", { read, platformOf })).way.at(-1)?.digest;
    };
    const [own, foreign, related, unknown] = [{}, { architecture: "s390x" }, { architecture: "386" }, undefined].map(
      (platform) => image(platform),
    ) as [Descriptor, Descriptor, Descriptor, Descriptor];
    assert.equal(await find(foreign, related, unknown, own, foreign), own.digest);
    assert.equal(asked, 4);
    assert.equal(await find(unknown, related), related.digest);
    assert.equal(await find(foreign, unknown), unknown.digest);
    assert.equal(await find(image({ variant: "v4" }), own), own.digest);
    assert.equal(await find(foreign, add(indexType, { manifests: [foreign, own] })), own.digest);
    assert.equal(await find(add(indexType, { manifests: [foreign] }), own), own.digest);
    // who names a platform comes first, and the only one says itself what is wrong
    assert.equal(await find(own, { ...unknown, platform: host }), unknown.digest);
    assert.equal(await find(foreign), foreign.digest);
    assert.equal(asked, 0);
    await assert.rejects(find(foreign, image({ os: "windows" })), /no image for linux\/amd64\/v2; it has linux\/s390x/);
    await assert.rejects(find(...Array<Descriptor>(100).fill(foreign), own), NotFoundError);
    assert.equal(asked, 32);
  });

  it("carry what Berth does not need without harm", () => {
    const url = "https://elsewhere.example/layer";
    const foreign = {
      ...layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
      urls: [url, 1, null],
      data: "AAAA",
      annotations: { a: "b", c: 1 },
    };
    const manifest = parse({
      schemaVersion: 2,
      artifactType: "application/vnd.example",
      subject: { mediaType: imageType, digest: digest(5), size: 1 },
      config: { ...config, digest: `sha512:${"0".repeat(128)}`, mediaType: "application/vnd.example.config" },
      layers: [foreign],
      annotations: { "org.example": "x" },
    });
    assert.ok(manifest.kind === "image");
    assert.deepEqual(manifest.layers[0]?.urls, [url]);
    assert.deepEqual(manifest.layers[0]?.annotations, { a: "b" });
    assert.deepEqual(manifest.annotations, { "org.example": "x" });
  });

  it("fit platforms", () => {
    const fit = (architecture: string, variant: string, host: Platform) =>
      platformFit({ os: "linux", architecture, variant }, host);
    const best = (images: [string, string][], host: Platform) =>
      images.toSorted((one, other) => fit(...other, host) - fit(...one, host))[0];
    const arm64 = hostPlatform("arm64");
    const amd64 = { os: "linux", architecture: "amd64", variant: "v3" };
    assert.ok(fit("arm64", "v8", arm64) > fit("arm64", "", arm64));
    assert.equal(fit("arm64", "v9", arm64), 0);
    assert.ok(fit("aarch64", "8", arm64) > 0);
    assert.ok(fit("arm", "v8", arm64) > fit("arm", "v7", arm64));
    assert.ok(fit("arm", "v7", arm64) > 0 && fit("arm", "v7", arm64) < fit("arm64", "", arm64));
    assert.equal(fit("arm64", "v8", hostPlatform("arm")), 0);
    assert.equal(fit("arm", "v8", hostPlatform("arm")), 0);
    assert.ok(fit("armel", "", hostPlatform("arm")) > 0);
    const levels = ["v1", "", "v4", "v3", "v2"].map((variant): [string, string] => ["amd64", variant]);
    assert.deepEqual(best(levels, amd64), ["amd64", "v3"]);
    assert.deepEqual(best(levels, { ...amd64, variant: "v1" }), ["amd64", "v1"]);
    assert.equal(fit("amd64", "v4", amd64), 0);
    assert.equal(fit("amd64", "strange", amd64), 0);
    assert.ok(fit("x86_64", "", amd64) > fit("386", "", amd64) && fit("i386", "", amd64) > 0);
    assert.equal(fit("amd64", "", { os: "linux", architecture: "386" }), 0);
  });

  it("tell amd64's level by the processor's flags", () => {
    const second = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3";
    const third = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave";
    const fourth = "avx512f avx512bw avx512cd avx512dq avx512vl";
    const level = (flags: string) => amd64Level(`processor\t: 0\nflags\t\t: fpu ${flags}\nbugs\t\t: x\n`);
    assert.equal(level(""), "v1");
    assert.equal(level(second), "v2");
    assert.equal(level(third), "v1");
    assert.equal(level(`${second} ${third}`), "v3");
    assert.equal(level(`${second} ${third} ${fourth}`), "v4");
    assert.equal(amd64Level(""), "v1");
    if (process.arch === "x64") assert.match(hostPlatform().variant ?? "", /^v[1-4]$/);
  });

  it("chain ids follow the specification", () => {
    assert.deepEqual(chainIdsOf([digest(1), digest(2), digest(3)]), [
      digest(1),
      digestOf(`${digest(1)} ${digest(2)}`),
      digestOf(`${digestOf(`${digest(1)} ${digest(2)}`)} ${digest(3)}`),
    ]);
  });
});
