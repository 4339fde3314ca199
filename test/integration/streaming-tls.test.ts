/** Streams over TLS, with the certificate of the configuration. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { connect } from "node:tls";
import { fileURLToPath } from "node:url";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type KeyPair, makeAuthority, type TestAuthority } from "../support/certificates.js";
import { importBusybox, runContainer, runPod } from "../support/workload.js";

const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

let authority: TestAuthority;
let agent: TestAgent;
let id: string;
let pair: KeyPair;

before(async () => {
  authority = await makeAuthority();
  pair = await authority.server("IP:127.0.0.1");
  agent = await startAgent({ flags: { "streams-cert": pair.certificate, "streams-key": pair.key } });
  await importBusybox(agent);
  id = await runContainer(agent, await runPod(agent));
});

after(async () => {
  await agent.stop();
  await authority.remove();
});

test("the URL says https, and the certificate is the one that was given", async () => {
  const { url } = await agent.client.call("Exec", { container_id: id, cmd: ["true"], stdout: true });
  assert.match(url, /^https:\/\/127\.0\.0\.1:\d+\/exec\//);
  const { port } = new URL(url);
  const ca = readFileSync(authority.certificate);
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port: Number(port), ca }, () => {
      socket.destroy();
      resolve();
    });
    socket.on("error", reject);
  });
});

test("an exec over it: megabytes and the exit code", async () => {
  const env = { ...process.env, BERTH_SOCKET: agent.socket };
  const args = [program, "exec", id, "sh", "-c", "head -c 3000000 /dev/zero; exit 4"];
  const ended = await new Promise<{ code: unknown; bytes: number }>((resolve) => {
    const options = { env, encoding: "buffer" as const, maxBuffer: 1 << 24 };
    execFile(process.execPath, args, options, (error, stdout) => resolve({ code: error?.code, bytes: stdout.length }));
  });
  assert.deepEqual(ended, { code: 4, bytes: 3_000_000 });
});

test("a certificate that was renewed is served, and rubbish is not", async () => {
  const served = async (): Promise<string> => {
    const { url } = await agent.client.call("Exec", { container_id: id, cmd: ["true"], stdout: true });
    const options = { host: "127.0.0.1", port: Number(new URL(url).port), ca: readFileSync(authority.certificate) };
    return new Promise((resolve, reject) => {
      const socket = connect(options, () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.destroy();
      });
      socket.on("error", reject);
    });
  };
  const before = await served();
  writeFileSync(pair.certificate, "rubbish");
  assert.equal(await served(), before);
  assert.match(agent.logs(), /failed: take the new certificate of streams, whose old one stays/);
  const renewed = await authority.server("IP:127.0.0.1");
  renameSync(renewed.key, pair.key);
  renameSync(renewed.certificate, pair.certificate);
  assert.equal(await served(), new X509Certificate(readFileSync(pair.certificate)).serialNumber);
});
