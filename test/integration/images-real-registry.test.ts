/** Debian's docker-registry with its own token authentication, and behind a network that cuts connections. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { makeAuthority, type TestAuthority } from "../support/certificates.js";
import { startCuttingProxy } from "../support/cutting-proxy.js";
import { type BuiltImage, buildImage, pushImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startRegistry, type TestRegistry } from "../support/registry.js";
import { startTokenServer, type TokenServer } from "../support/token-server.js";

describe("a real registry", () => {
  const image: BuiltImage = buildImage({
    layers: [1, 2].map((n) => [{ path: `file-${n}`, content: randomBytes(3_000_000) }]),
    compression: "none",
  });
  let service: TestImages;
  let authority: TestAuthority;
  let tokens: TokenServer;
  let plain: TestRegistry;
  let guarded: TestRegistry;

  before(async () => {
    service = await openTestImages({ patience: { stallMs: 30_000, retryMs: 5 } });
    authority = await makeAuthority();
    plain = await startRegistry();
    for (const name of ["public/a", "private/a"]) await pushImage(plain.url, name, "1", image);
    tokens = await startTokenServer({
      issuer: "berth-test",
      service: "registry.test",
      signer: await authority.server("DNS:tokens.test"),
      users: { me: "secret" },
      refreshToken: "refresh-me",
      publicPrefix: "public/",
    });
    guarded = await startRegistry({
      storage: plain.storage,
      token: {
        realm: tokens.url,
        service: "registry.test",
        issuer: "berth-test",
        authority: authority.certificate,
      },
    });
  });
  after(async () => {
    await guarded?.stop();
    await plain.stop();
    await tokens.stop();
    await authority.remove();
    await service.close();
  });

  it("gives tokens to whom it should, for what is asked for, and once for a pull", async () => {
    const pull = async (name: string, auth = {}): Promise<void> => {
      tokens.asked.length = 0;
      const record = await service.images.pull({ reference: `${guarded.host}/${name}:1`, auth });
      assert.equal(record.id, image.id);
      await service.images.store.remove(record.id);
    };
    await pull("public/a");
    assert.deepEqual(tokens.asked, ["GET repository:public/a:pull"]);
    await pull("private/a", { username: "me", password: "secret" });
    assert.deepEqual(tokens.asked, ["GET repository:private/a:pull"]);
    await pull("private/a", { identityToken: "refresh-me" });
    assert.deepEqual(tokens.asked, ["POST repository:private/a:pull"]);
    for (const auth of [{}, { username: "me", password: "wrong" }, { identityToken: "old" }]) {
      await assert.rejects(pull("private/a", auth), { kind: "PERMISSION_DENIED", message: /private\/a:1/ });
      assert.ok(tokens.asked.length <= 2, tokens.asked.join());
    }
    assert.deepEqual(await service.layerNames(), []);
  });

  it("goes on with blobs whose connections are cut", async () => {
    const proxy = await startCuttingProxy(plain.host, 700_000);
    const record = await service.images.pull({ reference: `${proxy.host}/public/a:1` });
    assert.equal(record.id, image.id);
    assert.ok(proxy.cuts >= 6, `${proxy.cuts} cuts`);
    await service.images.store.remove(record.id);
    await proxy.stop();
  });
});
