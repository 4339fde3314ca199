/** Registries that can be reached through a proxy only: names that nobody here resolves, but the proxy. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { makeAuthority, type TestAuthority } from "../support/certificates.js";
import { type BuiltImage, buildImage, pushImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { type ProxyOptions, startProxy, type TestProxy } from "../support/proxy.js";
import { startRegistry, type TestRegistry } from "../support/registry.js";

const variables = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"] as const;

describe("registries behind a proxy", () => {
  const image: BuiltImage = buildImage({ layers: [[{ path: "a", content: "a" }], [{ path: "b", content: "b" }]] });
  let directory: string;
  let service: TestImages;
  let authority: TestAuthority;
  let plain: TestRegistry;
  let secure: TestRegistry;
  let proxy: TestProxy | undefined;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "berth-proxies-"));
    service = await openTestImages({
      registriesDirectories: [directory],
      patience: { stallMs: 30_000, retryMs: 5 },
    });
    authority = await makeAuthority();
    plain = await startRegistry();
    await pushImage(plain.url, "x/y", "1", image);
    secure = await startRegistry({ storage: plain.storage, tls: await authority.server("DNS:r.example") });
    await mkdir(join(directory, "plain.example"));
    await writeFile(join(directory, "plain.example", "hosts.toml"), 'server = "http://plain.example:5000"\n');
  });
  after(async () => {
    for (const registry of [secure, plain]) await registry.stop();
    await service.close();
    await authority.remove();
    await rm(directory, { recursive: true, force: true });
  });
  afterEach(async () => {
    for (const name of variables) delete process.env[name];
    await proxy?.stop();
    proxy = undefined;
  });

  const open = async (options: Partial<ProxyOptions> = {}): Promise<TestProxy> => {
    proxy = await startProxy({
      routes: { "r.example:443": secure.host, "plain.example:5000": plain.host },
      ...options,
    });
    process.env["SSL_CERT_FILE"] = authority.certificate;
    return proxy;
  };
  const pulls = async (reference: string): Promise<void> => {
    const record = await service.images.pull({ reference });
    assert.equal(record.id, image.id);
    await service.images.store.remove(record.id);
  };

  it("are asked through a tunnel by https, and verified at its end", async () => {
    const { host, seen } = await open();
    process.env["HTTPS_PROXY"] = host;
    await pulls("r.example/x/y:1");
    assert.ok(seen.length > 0 && seen.every((line) => line === "CONNECT r.example:443"), seen.join());
    delete process.env["SSL_CERT_FILE"];
    await assert.rejects(service.images.pull({ reference: "r.example/x/y:1" }), {
      kind: "UNAVAILABLE",
      message: /^r\.example \(by the proxy 127\.0\.0\.1:\d+\) failed: .*(?:certificate|self-signed|verify)/,
    });
  });

  it("are asked by http without a tunnel", async () => {
    const { host, seen } = await open();
    process.env["HTTP_PROXY"] = `http://${host}`;
    await pulls("plain.example/x/y:1");
    assert.equal(seen[0], "GET http://plain.example:5000/v2/x/y/manifests/1?ns=plain.example");
    assert.ok(seen.every((line) => line.startsWith("GET http://plain.example:5000/v2/")));
  });

  it("are asked with the proxy's own credentials, which no error tells", async () => {
    const { host } = await open({ credentials: "me:se cret" });
    for (const name of ["HTTP_PROXY", "HTTPS_PROXY"]) process.env[name] = `http://me:se%20cret@${host}`;
    await pulls("r.example/x/y:1");
    await pulls("plain.example/x/y:1");
    for (const name of ["HTTP_PROXY", "HTTPS_PROXY"]) process.env[name] = `http://me:wrongsecret@${host}`;
    for (const reference of ["r.example/x/y:1", "plain.example/x/y:1"]) {
      await assert.rejects(service.images.pull({ reference }), (error: Error) => {
        assert.match(error.message, /by the proxy 127\.0\.0\.1:\d+\).*407/);
        assert.ok(!error.message.includes("secret"), error.message);
        return true;
      });
    }
  });

  it("may have a proxy that is asked by TLS itself", async () => {
    const { host, seen } = await open({ tls: await authority.server("IP:127.0.0.1") });
    for (const name of ["HTTP_PROXY", "HTTPS_PROXY"]) process.env[name] = `https://${host}`;
    await pulls("r.example/x/y:1");
    await pulls("plain.example/x/y:1");
    assert.ok(seen.includes("CONNECT r.example:443") && seen.some((line) => line.includes("plain.example")));
  });

  it("are not reached when there is no way through", async () => {
    const { host, seen } = await open();
    process.env["HTTPS_PROXY"] = host;
    await assert.rejects(service.images.pull({ reference: "unknown.example/x/y:1" }), {
      kind: "UNAVAILABLE",
      message: /^unknown\.example \(by the proxy .*502/,
    });
    await pulls(`${plain.host}/x/y:1`);
    assert.ok(!seen.some((line) => line.includes(plain.host)), "this machine is not asked through it");
    process.env["HTTPS_PROXY"] = "127.0.0.1:1";
    await assert.rejects(service.images.pull({ reference: "r.example/x/y:1" }), {
      kind: "UNAVAILABLE",
      message: /^r\.example \(by the proxy 127\.0\.0\.1:1\) failed: .*ECONNREFUSED/,
    });
    process.env["HTTPS_PROXY"] = "socks5://127.0.0.1:1";
    await assert.rejects(service.images.pull({ reference: "r.example/x/y:1" }), { kind: "FAILED_PRECONDITION" });
  });
});
