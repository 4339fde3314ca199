/** /metrics with TLS, clients' certificates and passwords, as a scraper meets them. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { get, type RequestOptions } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { connect } from "node:tls";
import type { ObservedNode } from "../../metrics/collect.js";
import { type MetricsServer, startMetricsServer } from "../../metrics/server.js";
import { openWebConfig } from "../../metrics/web-config.js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { Containers, Pods } from "../../sandbox/index-of-ids.js";
import { Observer } from "../../sandbox/observer.js";
import { type KeyPair, makeAuthority, type TestAuthority } from "../support/certificates.js";

/** bcrypt of "open: sesame" */
const hash = "$2b$04$pOtfZC0OGyZodbkH9MRxse0MKoTn5yjHN8sUbBtjJvT.J9A/mSKl.";

describe("/metrics with a web configuration", () => {
  let authority: TestAuthority;
  let path = "";
  const node: ObservedNode = {
    pods: new Pods(),
    containers: new Containers(),
    cgroups: openCgroupManager(),
    cgroupRoot: "/none",
    observer: new Observer(),
    network: { pendingRemovals: () => [] },
    store: { pods: { size: 3 }, containers: { size: 4 } },
    snapshots: { directory: tmpdir(), writableLayerUsage: async () => undefined },
  };
  const start = () =>
    startMetricsServer({ host: "127.0.0.1", port: 0, version: "1", webConfig: openWebConfig(path) }, node);
  const write = (content: object) => writeFileSync(path, JSON.stringify(content));
  const status = ({ port }: MetricsServer, options: RequestOptions = {}): Promise<number> =>
    new Promise((resolve, reject) => {
      const ca = readFileSync(authority.certificate);
      get({ host: "127.0.0.1", port, path: "/metrics", ca, agent: false, ...options }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      }).once("error", reject);
    });

  before(async () => {
    authority = await makeAuthority();
    path = join(authority.directory, "web.yml");
  });
  after(() => authority.remove());

  it("lets in who has a name and the password, over TLS, and takes new passwords without a restart", async () => {
    const { certificate: cert_file, key: key_file } = await authority.server("IP:127.0.0.1");
    const tls_server_config = { cert_file, key_file };
    write({ tls_server_config, basic_auth_users: { scraper: hash } });
    const server = await start();
    try {
      assert.equal(await status(server), 401);
      assert.equal(await status(server, { auth: "scraper:wrong" }), 401);
      assert.equal(await status(server, { auth: "nobody:open: sesame" }), 401);
      assert.equal(await status(server, { auth: "scraper:open: sesame" }), 200);
      assert.equal(await status(server, { auth: "scraper:open: sesame" }), 200);
      write({ tls_server_config, basic_auth_users: { another: hash } });
      assert.equal(await status(server, { auth: "scraper:open: sesame" }), 401);
      assert.equal(await status(server, { auth: "another:open: sesame" }), 200);
      await assert.rejects(fetch(`http://127.0.0.1:${server.port}/metrics`));
    } finally {
      await server.close();
    }
  });

  it("has the certificate that was renewed, and the old one while the files are wrong or halfway exchanged", async () => {
    const [first, second] = [await authority.server("IP:127.0.0.1"), await authority.server("IP:127.0.0.1")];
    const [cert_file, key_file] = [join(authority.directory, "web.cert"), join(authority.directory, "web.key")];
    const has = (certificate: string | null, key: string | null) => {
      for (const [from, to] of [
        [certificate, cert_file],
        [key, key_file],
      ] as const) {
        if (from === null) rmSync(to, { force: true });
        else writeFileSync(to, from.startsWith("/") ? readFileSync(from) : from);
      }
    };
    const serial = (of: KeyPair) => new X509Certificate(readFileSync(of.certificate)).serialNumber;
    const served = ({ port }: MetricsServer) =>
      new Promise<string>((resolve, reject) => {
        const socket = connect({ port, host: "127.0.0.1", ca: readFileSync(authority.certificate) }, () => {
          resolve(socket.getPeerCertificate().serialNumber);
          socket.destroy();
        }).once("error", reject);
      });
    const troubles: unknown[] = [];
    const unsubscribe = node.observer.subscribe((happening) => troubles.push(happening));
    has(first.certificate, first.key);
    write({ tls_server_config: { cert_file, key_file } });
    const server = await start();
    try {
      assert.equal(await served(server), serial(first));
      for (const [certificate, key] of [
        ["rubbish", first.key],
        [second.certificate, first.key],
        [null, first.key],
        [second.certificate, null],
        ["", ""],
      ] as const) {
        troubles.splice(0);
        has(certificate, key);
        assert.equal(await served(server), serial(first), `${certificate} ${key}`);
        assert.equal(await served(server), serial(first));
        assert.equal(troubles.length, 1);
      }
      has(second.certificate, second.key);
      // a request over a connection of before must not take the change away from the next one
      assert.equal(await served(server), serial(second));
    } finally {
      unsubscribe();
      await server.close();
    }
  });

  it("lets in who has a certificate of the authority's", async () => {
    const { certificate: cert_file, key: key_file } = await authority.server("IP:127.0.0.1");
    const client = await authority.client("prometheus");
    const client_auth_type = "RequireAndVerifyClientCert";
    write({
      tls_server_config: { cert_file, key_file, client_auth_type, client_ca_file: "ca.pem", min_version: "TLS13" },
    });
    const server = await start();
    try {
      await assert.rejects(status(server));
      const own = { cert: readFileSync(client.certificate), key: readFileSync(client.key) };
      assert.equal(await status(server, own), 200);
      await assert.rejects(status(server, { ...own, maxVersion: "TLSv1.2" }));
    } finally {
      await server.close();
    }
  });

  it("is refused with the name of what is wrong", () => {
    const refused = (content: object, why: RegExp) => {
      write(content);
      assert.throws(() => openWebConfig(path), why);
    };
    refused({ basic_auth_users: { a: "secret" } }, /basic_auth_users\.a: is not a bcrypt hash/);
    refused({ tls_server_configs: {} }, /tls_server_configs/);
    refused({ tls_server_config: { cert_file: "no.pem", key_file: "no.key" } }, /no\.pem/);
    refused(
      {
        tls_server_config: { cert_file: "ca.pem", key_file: "ca.key", client_auth_type: "RequireAndVerifyClientCert" },
      },
      /needs client_ca_file/,
    );
    assert.throws(() => openWebConfig(join(authority.directory, "none.yml")), /ENOENT/);
  });
});
