import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { BerthError, FailureKind } from "../../sandbox/errors.js";
import { type BuiltImage, buildImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { type Answer, type LyingRegistry, startLyingRegistry } from "../support/lying-registry.js";

const content = createHash("sha256").update("seed").digest("hex").repeat(5000);
const image: BuiltImage = buildImage({ layers: [[{ path: "a", content }], [{ path: "b", content: "b" }]] });
const layerDigest = image.layers[0]?.digest as string;
const layerBytes = image.layers[0]?.bytes as Buffer;

describe("a registry that does not do what it should", () => {
  let service: TestImages;
  let registriesDirectory: string;

  before(async () => {
    registriesDirectory = await mkdtemp(join(tmpdir(), "berth-certs-"));
    service = await openTestImages({
      registriesDirectories: [registriesDirectory],
      patience: { stallMs: 30_000, retryMs: 5 },
    });
  });
  after(async () => {
    await service.close();
    await rm(registriesDirectory, { recursive: true, force: true });
  });

  const withRegistry = async (answer: Answer, use: (registry: LyingRegistry) => Promise<void>): Promise<void> => {
    const registry = await startLyingRegistry(image, answer);
    try {
      await use(registry);
    } finally {
      await registry.stop();
    }
  };

  const fails = (answer: Answer, kind: FailureKind, message: RegExp): Promise<void> =>
    withRegistry(answer, async (registry) => {
      await assert.rejects(service.images.pull({ reference: `${registry.host}/x/y:1` }), (error: BerthError) => {
        assert.equal(error.kind, kind, error.stack ?? "");
        assert.match(error.message, message);
        return true;
      });
      assert.deepEqual(await service.layerNames(), []);
      assert.deepEqual(service.images.store.list(), []);
    });

  const onLayer =
    (act: Parameters<typeof startLyingRegistry>[1] & Answer): Answer =>
    (request, response, path) =>
      path.endsWith(layerDigest) ? act(request, response, path) : false;

  it("other bytes than the digest promised: both digests are told", () =>
    fails(
      onLayer((_request, response) => {
        const other = Buffer.from(layerBytes);
        // the header's time: the stream stays whole
        other.writeUInt32LE(1, 4);
        response.writeHead(200).end(other);
        return true;
      }),
      "INTERNAL",
      new RegExp(`${layerDigest}.*sha256:[0-9a-f]{64}`),
    ));

  it("more bytes, fewer bytes", async () => {
    await fails(
      onLayer((_request, response) => {
        response.writeHead(200).end(Buffer.concat([layerBytes, Buffer.alloc(10)]));
        return true;
      }),
      "INTERNAL",
      /longer than/,
    );
    await fails(
      onLayer((_request, response) => {
        response.writeHead(200).end(layerBytes.subarray(0, -10));
        return true;
      }),
      "INTERNAL",
      /ends too early|descriptor says/,
    );
  });

  it("hangs up half way", () =>
    fails(
      onLayer((_request, response) => {
        response.writeHead(200, { "content-length": layerBytes.length });
        response.write(layerBytes.subarray(0, 1000), () => response.destroy());
        return true;
      }),
      "UNAVAILABLE",
      /127\.0\.0\.1/,
    ));

  it("a page of HTML, a schema 1 manifest, an endless manifest, an error", async () => {
    const manifest =
      (status: number, type: string, body: string): Answer =>
      (_request, response, path) => {
        if (!path.includes("/manifests/")) return false;
        response.writeHead(status, { "content-type": type }).end(body);
        return true;
      };
    await fails(manifest(200, "text/html", "<html>"), "INVALID_ARGUMENT", /x\/y:1 is no JSON .*text\/html/);
    await fails(manifest(200, "application/json", '{"schemaVersion":1}'), "INVALID_ARGUMENT", /schema 1/);
    await fails(manifest(200, "application/json", " ".repeat(5 * 1024 ** 2)), "INTERNAL", /longer than 4194304/);
    await fails(manifest(500, "text/plain", "no"), "UNAVAILABLE", /HTTP 500/);
    await fails(manifest(403, "text/plain", "no"), "PERMISSION_DENIED", /x\/y:1/);
  });

  it("redirects for ever, or to another scheme", async () => {
    const to =
      (location: string): Answer =>
      (_request, response, path) => {
        if (!path.includes("/blobs/")) return false;
        response.writeHead(307, { location }).end();
        return true;
      };
    await fails(to("?again"), "UNAVAILABLE", /more than 5 times/);
    await fails(to("file:///etc/passwd"), "UNAVAILABLE", /file:\/\/\/etc\/passwd/);
  });

  it("does not show credentials to the server it redirects to", () =>
    withRegistry(
      () => false,
      (storage) =>
        withRegistry(
          (_request, response, path) => {
            if (!path.includes("/blobs/")) return false;
            response.writeHead(307, { location: `${storage.url}${path}` }).end();
            return true;
          },
          async (registry) => {
            const auth = { registryToken: "secret-token" };
            const record = await service.images.pull({ reference: `${registry.host}/x/y:1`, auth });
            assert.equal(record.id, image.id);
            assert.ok(registry.seen.every((request) => request.authorization === "Bearer secret-token"));
            assert.equal(storage.seen.length, 3);
            assert.ok(storage.seen.every((request) => request.authorization === undefined));
            await service.images.store.remove(record.id);
          },
        ),
    ));

  it("answers bearer and basic challenges, and takes a denial for an answer", async () => {
    let port = "";
    const bearer: Answer = (request, response, path) => {
      if (path === "/token") {
        const allowed = request.headers.authorization === `Basic ${Buffer.from("me:pass:word").toString("base64")}`;
        response.writeHead(allowed ? 200 : 401).end(JSON.stringify({ token: "good" }));
        return true;
      }
      if (request.headers.authorization === "Bearer good") return false;
      const challenge = `Bearer realm="http://127.0.0.1:${port}/token",service="reg",scope="repository:x/y:pull"`;
      response.writeHead(401, { "www-authenticate": challenge }).end();
      return true;
    };
    await withRegistry(bearer, async (registry) => {
      port = registry.host.split(":")[1] as string;
      const reference = `${registry.host}/x/y:1`;
      const record = await service.images.pull({ reference, auth: { username: "me", password: "pass:word" } });
      assert.equal(record.id, image.id);
      const tokens = registry.seen.filter((request) => request.path === "/token");
      assert.equal(tokens.length, 1);
      assert.equal(tokens[0]?.query.get("scope"), "repository:x/y:pull");
      assert.equal(tokens[0]?.query.get("service"), "reg");
      await service.images.store.remove(record.id);
      await assert.rejects(service.images.pull({ reference }), { kind: "PERMISSION_DENIED" });
      await assert.rejects(service.images.pull({ reference, auth: { auth: "!" } }), { kind: "INVALID_ARGUMENT" });
    });
    const basic: Answer = (request, response) => {
      if (request.headers.authorization === `Basic ${Buffer.from("a:b").toString("base64")}`) return false;
      response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
      return true;
    };
    await withRegistry(basic, async (registry) => {
      const reference = `${registry.host}/x/y:1`;
      const record = await service.images.pull({ reference, auth: { auth: Buffer.from("a:b").toString("base64") } });
      await service.images.store.remove(record.id);
      const wrong = { username: "a", password: "wrong" };
      await assert.rejects(service.images.pull({ reference, auth: wrong }), { kind: "PERMISSION_DENIED" });
      await assert.rejects(service.images.pull({ reference }), { kind: "PERMISSION_DENIED", message: /credentials/ });
    });
  });

  it("asks mirrors in their order and falls back to the registry itself", () =>
    withRegistry(
      (_request, response) => {
        response.writeHead(404).end();
        return true;
      },
      (empty) =>
        withRegistry(
          () => false,
          async (mirror) => {
            const directory = join(registriesDirectory, "registry.example");
            await mkdir(directory);
            await writeFile(
              join(directory, "hosts.toml"),
              `server = "http://127.0.0.1:1"
[host."${empty.url}"]
  capabilities = ["pull", "resolve"]
[host."${mirror.url}/prefix/v2"]
  capabilities = ["pull", "resolve"]
  override_path = true
  [host."${mirror.url}/prefix/v2".header]
    x-test = ["one", "two"]
`,
            );
            const record = await service.images.pull({ reference: "registry.example/x/y:1" });
            assert.deepEqual(record.repoTags, ["registry.example/x/y:1"]);
            assert.equal(empty.seen.length, 1);
            assert.equal(mirror.seen[0]?.path, "/prefix/v2/x/y/manifests/1");
            assert.equal(mirror.seen[0]?.query.get("ns"), "registry.example");
            assert.equal(mirror.seen[0]?.headers["x-test"], "one, two");
            await service.images.store.remove(record.id);
            await writeFile(join(directory, "hosts.toml"), "server = 7\n");
            await assert.rejects(service.images.pull({ reference: "registry.example/x/y:1" }), {
              kind: "FAILED_PRECONDITION",
              message: /hosts\.toml:1: server is no string/,
            });
          },
        ),
    ));

  it("asks hosts that may not resolve for what a digest names, and believes no tag of theirs", () =>
    withRegistry(
      (_request, response, path) => {
        if (!path.endsWith("/manifests/1")) return false;
        response.writeHead(200).end("{}");
        return true;
      },
      (mirror) =>
        withRegistry(
          () => false,
          async (registry) => {
            const directory = join(registriesDirectory, "pulling.example");
            await mkdir(directory);
            const file = (capabilities: string, more = ""): Promise<void> =>
              writeFile(
                join(directory, "hosts.toml"),
                `server = "${registry.url}"\n${more}[host."${mirror.url}"]\ncapabilities = ["${capabilities}"]\n`,
              );
            await file("pull");
            const record = await service.images.pull({ reference: "pulling.example/x/y:1" });
            assert.deepEqual(record.repoTags, ["pulling.example/x/y:1"]);
            assert.deepEqual(record.repoDigests, [`pulling.example/x/y@${image.manifest.digest}`]);
            assert.deepEqual(
              registry.seen.map(({ path }) => path),
              ["/v2/x/y/manifests/1"],
            );
            assert.equal(mirror.seen.length, 4);
            assert.ok(!mirror.seen.some(({ path }) => path.endsWith("/1")));
            await service.images.store.remove(record.id);
            mirror.seen.length = 0;
            await file("resolve", 'capabilities = ["pull"]\n');
            await assert.rejects(service.images.pull({ reference: "pulling.example/x/y:1" }), {
              message: /sent another manifest for pulling\.example\/x\/y@sha256:/,
            });
            assert.equal(mirror.seen.length, 1);
            await file("pull", 'capabilities = ["pull"]\n');
            await assert.rejects(service.images.pull({ reference: "pulling.example/x/y:1" }), {
              kind: "NOT_FOUND",
              message: "no configured host of pulling.example may be pulled from by a tag",
            });
          },
        ),
    ));

  it("asks the next host at once where one wants to be left alone for a while", () =>
    withRegistry(
      (_request, response) => {
        response.writeHead(429, { "retry-after": "30" }).end();
        return true;
      },
      (busy) =>
        withRegistry(
          () => false,
          async (registry) => {
            const directory = join(registriesDirectory, "busy.example");
            await mkdir(directory);
            await writeFile(join(directory, "hosts.toml"), `server = "${registry.url}"\n[host."${busy.url}"]\n`);
            const begun = performance.now();
            const record = await service.images.pull({ reference: "busy.example/x/y:1" });
            assert.ok(performance.now() - begun < 25_000);
            assert.equal(busy.seen.length, 1);
            await service.images.store.remove(record.id);
          },
        ),
    ));

  it("sends a layer that is no archive", async () => {
    const nonsense = buildImage({ layers: [Buffer.from("this is no tar archive".repeat(100))] });
    const registry = await startLyingRegistry(nonsense);
    try {
      await assert.rejects(service.images.pull({ reference: `${registry.host}/x/y:1` }), /no tar archive/);
      assert.deepEqual(await service.layerNames(), []);
    } finally {
      await registry.stop();
    }
  });
});
