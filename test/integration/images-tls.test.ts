/** Real registries with TLS: whom Berth trusts, by whose word, and to whom it shows its own certificate. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { makeAuthority, type TestAuthority } from "../support/certificates.js";
import { type BuiltImage, buildImage, pushImage } from "../support/image-builder.js";
import { openTestImages, type TestImages } from "../support/image-service.js";
import { startRegistry, type TestRegistry } from "../support/registry.js";

describe("registries with TLS", () => {
  const image: BuiltImage = buildImage({ layers: [[{ path: "a", content: "a" }]] });
  let directory: string;
  let service: TestImages;
  let authority: TestAuthority;
  let plain: TestRegistry;
  let named: TestRegistry;
  let strict: TestRegistry;
  let misnamed: TestRegistry;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "berth-certs-"));
    service = await openTestImages({ registriesDirectories: [directory] });
    authority = await makeAuthority();
    plain = await startRegistry();
    await pushImage(plain.url, "x/y", "1", image);
    const { storage } = plain;
    const certificate = await authority.server("DNS:localhost");
    [named, strict, misnamed] = await Promise.all([
      startRegistry({ storage, tls: certificate }),
      startRegistry({ storage, tls: { ...certificate, clientAuthority: authority.certificate } }),
      startRegistry({ storage, tls: await authority.server("DNS:other.example", "IP:10.0.0.1") }),
    ]);
  });
  after(async () => {
    for (const registry of [named, strict, misnamed, plain]) await registry?.stop();
    await service.close();
    await authority.remove();
    await rm(directory, { recursive: true, force: true });
  });

  const configure = async (text: string): Promise<void> => {
    await mkdir(join(directory, "r.example"), { recursive: true });
    await writeFile(join(directory, "r.example", "hosts.toml"), text);
  };
  const pulls = async (reference = "r.example/x/y:1"): Promise<void> => {
    const record = await service.images.pull({ reference });
    assert.equal(record.id, image.id);
    await service.images.store.remove(record.id);
  };
  const fails = async (message: RegExp): Promise<void> => {
    await assert.rejects(service.images.pull({ reference: "r.example/x/y:1" }), { kind: "UNAVAILABLE", message });
    assert.deepEqual(await service.layerNames(), []);
  };
  const portOf = (registry: TestRegistry): string => registry.host.split(":")[1] as string;
  const server = (registry: TestRegistry, scheme = "https"): string =>
    `server = "${scheme}://localhost:${portOf(registry)}"\n`;

  it("are trusted when their authority is configured, and by no system's", async () => {
    await configure(server(named));
    await fails(/localhost:[0-9]+ failed: .*(?:certificate|self-signed|verify)/);
    await configure(`${server(named)}ca = "${authority.certificate}"\n`);
    await pulls();
  });

  it("are refused when the certificate is another's, unless nothing is to be verified", async () => {
    await configure(`${server(misnamed)}ca = "${authority.certificate}"\n`);
    await fails(/localhost:[0-9]+ failed: .*(?:altnames|ALTNAME)/);
    await configure(`${server(misnamed)}skip_verify = true\n`);
    await pulls();
  });

  it("get a client's certificate when one is configured for them", async () => {
    await configure(`${server(strict)}ca = "${authority.certificate}"\n`);
    await fails(/localhost:[0-9]+ failed: /);
    const client = await authority.client("node");
    await configure(
      `${server(strict)}ca = "${authority.certificate}"\nclient = [["${client.certificate}", "${client.key}"]]\n`,
    );
    await pulls();
  });

  it("are asked by https where http is configured together with certificates", async () => {
    await configure(`${server(named, "http")}ca = "${authority.certificate}"\n`);
    await pulls();
    await configure(`${server(plain, "http")}ca = "${authority.certificate}"\n`);
    await pulls();
    await configure(server(plain));
    await fails(/localhost:[0-9]+ failed: .*wrong version number/);
  });

  it("on this machine need no configuration", async () => {
    await pulls(`127.0.0.1:${portOf(misnamed)}/x/y:1`);
    await pulls(`localhost:${portOf(named)}/x/y:1`);
    await pulls(`localhost:${portOf(plain)}/x/y:1`);
  });

  it("trust what SSL_CERT_FILE names instead of the system's bundle", async () => {
    process.env.SSL_CERT_FILE = authority.certificate;
    try {
      await configure(server(named));
      await pulls();
    } finally {
      delete process.env.SSL_CERT_FILE;
    }
    await fails(/localhost:[0-9]+ failed: /);
  });
});
