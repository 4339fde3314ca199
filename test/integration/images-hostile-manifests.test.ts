/** Documents of a registry that lie, are endless, or are of another world: refused with a sentence, and nothing stays. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { FailureKind } from "../../sandbox/errors.js";
import { makeAuthority } from "../support/certificates.js";
import { type BuiltImage, buildImage, hostArchitecture } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startLyingRegistry } from "../support/lying-registry.js";
import { type ServedBlobs, serveBlobs } from "../support/served-blobs.js";

const indexType = "application/vnd.oci.image.index.v1+json";
const imageType = "application/vnd.oci.image.manifest.v1+json";
const configType = "application/vnd.oci.image.config.v1+json";
const platform = { os: "linux", architecture: hostArchitecture };

describe("hostile documents", () => {
  const image: BuiltImage = buildImage({ layers: [[{ path: "a", content: "a".repeat(5000) }], [{ path: "b" }]] });
  const manifest = JSON.parse(image.manifest.bytes.toString());
  const manifestDescriptor = { mediaType: imageType, digest: image.manifest.digest, size: image.manifest.bytes.length };
  let service: TestImages;
  let registry: ServedBlobs;
  let take: ((response: ServerResponse, path: string) => boolean) | undefined;

  before(async () => {
    service = await openTestImages({ patience: { stallMs: 30_000, retryMs: 5 } });
    registry = await serveBlobs(image, (_request, response, path) => take?.(response, path));
  });
  after(async () => {
    await registry.stop();
    await service.close();
  });

  const serve = (document: unknown, type = imageType): void => {
    const text = typeof document === "string" ? document : JSON.stringify(document);
    registry.document = { bytes: Buffer.from(text), type };
  };
  const pull = () => service.images.pull({ reference: `${registry.host}/x/y:1` });
  const refuses = async (kind: FailureKind, message: RegExp): Promise<void> => {
    await assert.rejects(pull(), { kind, message });
    assert.deepEqual(await service.layerNames(), []);
    assert.deepEqual(service.images.store.list(), []);
  };
  const succeeds = async (id: string): Promise<void> => {
    assert.equal((await pull()).id, id);
    await service.images.store.remove(id);
    assert.deepEqual(await service.layerNames(), []);
  };
  const index = (...manifests: object[]): object => ({ schemaVersion: 2, mediaType: indexType, manifests });

  it("an index is followed through indexes, but not for ever, and is no list without end", async () => {
    let inner: object = index({ ...manifestDescriptor, platform });
    for (let depth = 0; depth < 2; depth++) {
      inner = index(registry.add(JSON.stringify(inner), indexType));
    }
    serve(inner, indexType);
    await succeeds(image.id);
    serve(index(registry.add(JSON.stringify(inner), indexType)), indexType);
    await refuses("INTERNAL", /index of indexes more than 3 deep/);
    serve(index(...Array(10_001).fill({ mediaType: "", digest: image.id, size: 1 })), indexType);
    await refuses("INVALID_ARGUMENT", /more than 10000 manifests/);
    serve("[".repeat(2_000_000) + "]".repeat(2_000_000));
    await refuses("INVALID_ARGUMENT", /manifest of \S+x\/y:1 is nested more than 64 deep/);
    serve({ ...manifest, annotations: Object.fromEntries(Array.from({ length: 100_000 }, (_, n) => [`${n}`, ""])) });
    await refuses("INVALID_ARGUMENT", /has more than 50000 values/);
    const entry = { mediaType: imageType, digest: image.id, size: 1, platform: { os: "linux", architecture: "mips" } };
    serve(index(...Array(100_000).fill(entry)), indexType);
    await refuses("INTERNAL", /the manifest of \S+x\/y:1 is longer than 4194304 bytes/);
  });

  it("an index that lies about sizes or contents is refused", async () => {
    serve(index({ ...manifestDescriptor, size: manifestDescriptor.size + 1, platform }), indexType);
    await refuses("INTERNAL", /the manifest \S+@sha256:\S+ has \d+ bytes, its descriptor says \d+/);
    serve(index({ ...manifestDescriptor, digest: image.configuration.digest, platform }), indexType);
    await refuses("INTERNAL", /descriptor says/);
    serve(index({ ...registry.add("{}", imageType), platform }), indexType);
    await refuses("INVALID_ARGUMENT", /schemaVersion/);
    serve(index({ ...manifestDescriptor, digest: `sha256:${"0".repeat(64)}`, platform }), indexType);
    await refuses("NOT_FOUND", /x\/y@sha256:0+ is not on/);
    // bytes of another manifest under this one's digest
    take = (response, path) => {
      if (!path.endsWith(image.manifest.digest)) return false;
      response.writeHead(200).end(JSON.stringify({ ...manifest, annotations: { another: "one" } }));
      return true;
    };
    serve(index({ ...manifestDescriptor, platform }), indexType);
    await refuses("INTERNAL", /sent another manifest for \S+: its digest is sha256:/);
    take = undefined;
  });

  it("digests by sha512 and sha384 count like those by sha256", async () => {
    for (const algorithm of ["sha512", "sha384"] as const) {
      const text = JSON.stringify({
        ...manifest,
        config: registry.add(image.configuration.bytes, configType, algorithm),
        layers: image.layers.map(({ bytes, mediaType }) => registry.add(bytes, mediaType, algorithm)),
      });
      serve(index({ ...registry.add(text, imageType, algorithm), platform }), indexType);
      await succeeds(image.id);
      const [layer] = image.layers as [BuiltImage["layers"][0]];
      const wrong = registry.add(layer.bytes, layer.mediaType, algorithm);
      take = (response, path) => {
        if (!path.endsWith(wrong.digest)) return false;
        const other = Buffer.from(layer.bytes);
        // the header's time: the stream stays whole
        other.writeUInt32LE(1, 4);
        response.writeHead(200).end(other);
        return true;
      };
      await refuses("INTERNAL", new RegExp(`blob ${algorithm}:\\S+ has other content`));
      take = undefined;
    }
  });

  it("a configuration that is none, or is another image's, is refused", async () => {
    const withConfig = (text: string, more: object = {}): void =>
      serve({ ...manifest, config: { ...registry.add(text, configType), ...more } });
    withConfig("<html>");
    await refuses("INVALID_ARGUMENT", /configuration of \S+x\/y:1 is no JSON/);
    for (const text of ["null", "[]", "7", "{}", '{"rootfs":{"type":"layers","diff_ids":"x"}}']) {
      withConfig(text);
      await refuses("INVALID_ARGUMENT", /configuration/);
    }
    withConfig(`${"[".repeat(1_000_000)}${"]".repeat(1_000_000)}`);
    await refuses("INVALID_ARGUMENT", /the configuration of \S+x\/y:1 is nested more than 64 deep/);
    withConfig(JSON.stringify({ ...platform, rootfs: { type: "layers", diff_ids: [] } }));
    await refuses("INVALID_ARGUMENT", /has 2 layers, but its configuration has 0 diff ids/);
    withConfig("{}", { size: 1 });
    await refuses("INTERNAL", /sends 2 bytes of blob \S+ of \S+, its descriptor says 1/);
    withConfig("{}", { size: 5_000_000 });
    await refuses("INVALID_ARGUMENT", /configuration of 5000000 bytes/);
    withConfig("{}", { size: Number.MAX_SAFE_INTEGER });
    await refuses("INVALID_ARGUMENT", /configuration of/);
  });

  it("bodies without end are read no further than they may be long", async () => {
    let sent = 0;
    const endless = (part: string) => (response: ServerResponse, path: string) => {
      if (!path.includes(part)) return false;
      const chunk = Buffer.alloc(64 * 1024, " ");
      response.writeHead(200, { "content-type": imageType });
      const write = (): void => {
        while (!response.destroyed && response.write(chunk)) sent += chunk.length;
      };
      response.on("drain", write);
      write();
      return true;
    };
    serve(manifest);
    const grown = process.memoryUsage().rss;
    for (const part of ["/manifests/", image.configuration.digest, image.layers[0]?.digest ?? ""]) {
      take = endless(part);
      sent = 0;
      await refuses("INTERNAL", /longer than/);
      const told = sent;
      assert.ok(told < 64 * 1024 ** 2, `${told} bytes were taken`);
      // it was hung up on
      await until(() => sent === told);
    }
    take = undefined;
    assert.ok(process.memoryUsage().rss - grown < 100 * 1024 ** 2);
  });

  it("answers that are no answers are refused", async () => {
    serve(manifest);
    for (const [part, status, headers, message] of [
      ["/manifests/", 204, {}, /with HTTP 204/],
      ["/manifests/", 206, {}, /with HTTP 206/],
      ["/manifests/", 304, {}, /HTTP 304/],
      ["/blobs/", 206, { "content-range": "bytes 0-9/10" }, /with HTTP 206/],
      ["/blobs/", 307, {}, /HTTP 307/],
      ["/blobs/", 300, { location: "/" }, /HTTP 300/],
    ] as const) {
      take = (response, path) => {
        if (!path.includes(part)) return false;
        response.writeHead(status, headers).end(status === 206 ? "something" : undefined);
        return true;
      };
      await assert.rejects(pull(), { message });
    }
    take = undefined;
    assert.deepEqual(await service.layerNames(), []);
  });

  it("what is no container image is called so", async () => {
    const artifact = {
      schemaVersion: 2,
      mediaType: imageType,
      artifactType: "application/vnd.example.sbom",
      config: registry.add("{}", "application/vnd.oci.empty.v1+json"),
      layers: [registry.add("x", "application/spdx+json")],
    };
    serve(artifact);
    await refuses("INVALID_ARGUMENT", /layer of type "application\/spdx\+json": it is no container image/);
    serve({ ...manifest, artifactType: "application/vnd.example", subject: manifestDescriptor });
    await succeeds(image.id);
    const signature = registry.add(JSON.stringify(artifact), imageType);
    serve(index({ ...signature, artifactType: "application/vnd.example.sbom" }, manifestDescriptor), indexType);
    await succeeds(image.id);
    const old = { schemaVersion: 1, name: "x/y", tag: "1", fsLayers: [], history: [], signatures: [] };
    serve(old, "application/vnd.docker.distribution.manifest.v1+prettyjws");
    await refuses("INVALID_ARGUMENT", /x\/y:1 has Docker's schema 1, .* push it again/);
  });

  it("foreign layers come from elsewhere, with the same checks and without credentials", async () => {
    const elsewhere = await startLyingRegistry(image);
    const [first, ...others] = manifest.layers;
    const foreignType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    const foreign = (...urls: string[]): void =>
      serve({ ...manifest, layers: [{ ...first, mediaType: foreignType, urls }, ...others] });
    const url = `${elsewhere.url}/blobs/${first.digest}`;
    foreign("https://127.0.0.1:1/gone", url);
    await succeeds(image.id);
    assert.equal(elsewhere.seen.length, 0, "the registry has it");
    take = (response, path) => path.endsWith(first.digest) && Boolean(response.writeHead(404).end());
    const auth = { registryToken: "secret" };
    const record = await service.images.pull({ reference: `${registry.host}/x/y:1`, auth });
    await service.images.store.remove(record.id);
    assert.equal(elsewhere.seen.length, 1);
    assert.ok(!JSON.stringify(elsewhere.seen).includes("secret"));
    foreign(`${elsewhere.url}/blobs/${image.layers[1]?.digest}`);
    await refuses("INTERNAL", /descriptor says|other content/);
    foreign("file:///etc/passwd", "ftp://x/y", "no address");
    await refuses("NOT_FOUND", /is not on 127\S+, and no address of another server is https/);
    foreign(`${elsewhere.url}/blobs/sha256:gone`);
    await refuses("NOT_FOUND", /is not on 127/);
    take = undefined;
    await elsewhere.stop();
  });

  it("a registry with TLS leads to no server without", async () => {
    const authority = await makeAuthority();
    const plain = await startLyingRegistry(image);
    const secure = await startLyingRegistry(
      image,
      (_request, response, path) => {
        if (!path.includes("/blobs/")) return false;
        response.writeHead(307, { location: `${plain.url}${path}` }).end();
        return true;
      },
      await authority.server("DNS:localhost"),
    );
    await assert.rejects(service.images.pull({ reference: `${secure.host}/x/y:1` }), {
      kind: "UNAVAILABLE",
      message: /redirects from https to http/,
    });
    assert.equal(plain.seen.length, 0);
    const itself = await startLyingRegistry(
      image,
      (request, response, path) => {
        if (!path.includes("/blobs/") || request.url?.includes("again")) return false;
        // what stands behind something that speaks TLS for it says so
        response.writeHead(307, { location: `http://${request.headers.host}${path}?again` }).end();
        return true;
      },
      await authority.server("DNS:localhost"),
    );
    const auth = { registryToken: "secret" };
    const record = await service.images.pull({ reference: `${itself.host}/x/y:1`, auth });
    await service.images.store.remove(record.id);
    assert.ok(itself.seen.every(({ authorization }) => authorization === "Bearer secret"));
    await itself.stop();
    await Promise.all([plain.stop(), secure.stop()]);
    await authority.remove();
  });
});

async function until(holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !holds(); await sleep(5)) {
    if (Date.now() > end) assert.fail("it did not become so within 20 s");
  }
}
