/** A real registry (Debian's docker-registry) on a free loopback port with private storage. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface TestRegistry {
  /** "127.0.0.1:PORT": the first part of references */
  host: string;
  /** "http://127.0.0.1:PORT", with TLS "https://..." */
  url: string;
  pid: number;
  /** where it keeps what it has: others may serve the same */
  storage: string;
  /** Ends it and deletes its storage. */
  stop(): Promise<void>;
}

export interface RegistryOptions {
  /** basic authentication: a line of htpasswd (bcrypt) */
  htpasswd?: string;
  /** tokens of this server are believed when the authority (a PEM file) has signed their signer's certificate */
  token?: { realm: string; service: string; issuer: string; authority: string };
  /** another registry's; absent: one of its own */
  storage?: string;
  /** paths of PEM files; with `clientAuthority` only clients that it vouches for are served */
  tls?: { certificate: string; key: string; clientAuthority?: string };
}

/** Starts a registry; it answers when this resolves. */
export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const directory = await mkdtemp(join(tmpdir(), "berth-registry-"));
  const port = await freePort();
  const configPath = join(directory, "config.yml");
  const basic = options.htpasswd === undefined ? "" : `auth: {htpasswd: {realm: berth, path: ${directory}/htpasswd}}\n`;
  const { token } = options;
  const bearer = token && `realm: "${token.realm}", service: ${token.service}, issuer: ${token.issuer}`;
  const auth = token === undefined ? basic : `auth: {token: {${bearer}, rootcertbundle: ${token.authority}}}\n`;
  if (options.htpasswd !== undefined) await writeFile(join(directory, "htpasswd"), `${options.htpasswd}\n`);
  const { tls, storage = join(directory, "data") } = options;
  const clients = tls?.clientAuthority === undefined ? "" : `, clientcas: [${tls.clientAuthority}]`;
  const tlsConfig = tls === undefined ? "" : `, tls: {certificate: ${tls.certificate}, key: ${tls.key}${clients}}`;
  await writeFile(
    configPath,
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ${storage}}, delete: {enabled: true}}
http: {addr: "127.0.0.1:${port}"${tlsConfig}}
${auth}`,
  );
  const child = spawn("docker-registry", ["serve", configPath], { stdio: ["ignore", "ignore", "pipe"] });
  let output = "";
  child.stderr.on("data", (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-4000);
  });
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
    await rm(directory, { recursive: true, force: true });
  };
  const url = `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`;
  if (!(await answers(child, port))) {
    await stop();
    throw new Error(`docker-registry did not start: ${output}`);
  }
  return { host: `127.0.0.1:${port}`, url, pid: child.pid as number, storage, stop };
}

async function answers(child: ChildProcess, port: number): Promise<boolean> {
  for (let attempt = 0; attempt < 200 && child.exitCode === null; attempt++) {
    const answered = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => {
        resolve(true);
        socket.destroy();
      });
      socket.once("error", () => resolve(false));
    });
    if (answered) return true;
    await sleep(25);
  }
  return false;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
