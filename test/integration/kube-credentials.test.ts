/** How `berth kube` gets at its credentials, and what it says of those that do not do. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { ApiClient } from "../../agent/kube/api-client.js";
import { Credentials, inClusterSource } from "../../agent/kube/credentials.js";
import { Said } from "../../agent/kube/said.js";
import { TestApiServer } from "../support/api-server.js";
import { makeAuthority, type TestAuthority } from "../support/certificates.js";

describe("the credentials of berth kube", () => {
  let authority: TestAuthority;
  let server: TestApiServer;
  let directory: string;
  const tokens = new Set<string>();
  before(async () => {
    authority = await makeAuthority();
    directory = mkdtempSync(join(tmpdir(), "berth-kube-"));
    server = new TestApiServer({ tls: await authority.server("IP:127.0.0.1"), tokens });
    await server.start();
  });
  after(async () => {
    await server.stop();
    await authority.remove();
    rmSync(directory, { recursive: true });
  });

  const kubeconfig = (user: object, url = server.url): string => {
    const path = join(directory, "kubeconfig");
    const cluster = { server: url, "certificate-authority": authority.certificate };
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster }],
      users: [{ name: "u", user }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  };
  const open = (path: string, allowExec = false) => {
    const sentences: string[] = [];
    const log = (sentence: string) => void sentences.push(sentence);
    const said = new Said({ warn: log, info: log } as never);
    const credentials = new Credentials({ kubeconfig: path, allowExec }, said);
    const { signal } = new AbortController();
    const ask = () => new ApiClient(credentials, said).call({ method: "GET", path: "/api/v1/pods", signal });
    return { credentials, sentences, ask };
  };

  it("refuses a program that a kubeconfig names, unless it is allowed", async () => {
    const answer = { apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status: { token: "made" } };
    const exec = { apiVersion: answer.apiVersion, command: "echo", args: [JSON.stringify(answer)] };
    const path = kubeconfig({ exec });
    await assert.rejects(open(path).credentials.current(), /exec: echo would be run for credentials; --allow-exec/);
    const provider = kubeconfig({ "auth-provider": { name: "gcp", config: { "cmd-path": "touch" } } });
    await assert.rejects(open(provider).credentials.current(), /auth-provider: gcp/);
    tokens.add("made");
    await open(kubeconfig({ exec }), true).ask();
  });

  it("says what is wrong in a file, and sends no token in the clear", async () => {
    await assert.rejects(
      open(join(directory, "none")).credentials.current(),
      /kubeconfig .*none cannot be read.*ENOENT/,
    );
    writeFileSync(join(directory, "broken"), ":\n\t- x");
    await assert.rejects(open(join(directory, "broken")).credentials.current(), /broken cannot be read/);
    const clear = kubeconfig({ token: "t" }, "http://127.0.0.1:1");
    await assert.rejects(open(clear).credentials.current(), /http:\/\/127.0.0.1:1 is not https/);
  });

  it("says once that a token has expired, and goes on with the new one when there is one", async () => {
    const claims = (exp: number) => `h.${Buffer.from(JSON.stringify({ exp })).toString("base64url")}.s`;
    const [old, fresh] = [claims(1_000_000), claims(4_000_000_000)];
    tokens.add(fresh);
    const { ask, sentences } = open(kubeconfig({ token: old }));
    for (let tries = 0; tries < 3; tries++) await assert.rejects(ask(), /401/);
    assert.equal(sentences.length, 1);
    assert.match(sentences[0] ?? "", /the credentials have expired at 1970-01-12T13:46:40.000Z; they are read again/);
    kubeconfig({ token: fresh });
    await ask();
    assert.match(sentences.at(-1) ?? "", /have been renewed/);
  });

  it("says once that a client certificate has expired", async () => {
    const pair = await authority.client("berth-kube");
    const expired = join(directory, "expired.cert");
    const request = execFileSync("openssl", ["req", "-new", "-key", pair.key, "-subj", "/CN=old"]);
    const signing = ["x509", "-req", "-signkey", pair.key, "-days", "0", "-out", expired];
    execFileSync("openssl", signing, { input: request, stdio: ["pipe", "ignore", "ignore"] });
    const path = join(directory, "client.cert");
    copyFileSync(expired, path);
    const config = kubeconfig({ "client-certificate": path, "client-key": pair.key });
    const { credentials, sentences } = open(config);
    await credentials.current();
    credentials.doubt();
    await credentials.current();
    assert.equal(sentences.length, 1);
    assert.match(sentences[0] ?? "", /have expired at 20/);
    copyFileSync(pair.certificate, path);
    credentials.doubt();
    await credentials.current();
    assert.match(sentences.at(-1) ?? "", /have been renewed/);
  });

  it("knows a pod's service account by its environment", () => {
    assert.throws(() => inClusterSource({}), /KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set/);
    assert.deepEqual(inClusterSource({ KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "443" }), {
      serviceAccount: "/var/run/secrets/kubernetes.io/serviceaccount",
      server: "https://[fd00::1]:443",
    });
  });
});
