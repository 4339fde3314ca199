/** A real registry (Debian's docker-registry) on a free loopback port with private storage. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface TestRegistry {
  /** "127.0.0.1:PORT": the first part of references */
  host: string;
  /** "http://127.0.0.1:PORT" */
  url: string;
  pid: number;
  /** Ends it and deletes its storage. */
  stop(): Promise<void>;
}

export interface RegistryOptions {
  /** basic authentication: a line of htpasswd (bcrypt) */
  htpasswd?: string;
}

/** Starts a registry; it answers when this resolves. */
export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const directory = await mkdtemp(join(tmpdir(), "berth-registry-"));
  const port = await freePort();
  const configPath = join(directory, "config.yml");
  const auth = options.htpasswd === undefined ? "" : `auth: {htpasswd: {realm: berth, path: ${directory}/htpasswd}}\n`;
  if (options.htpasswd !== undefined) await writeFile(join(directory, "htpasswd"), `${options.htpasswd}\n`);
  await writeFile(
    configPath,
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ${directory}/data}, delete: {enabled: true}}
http: {addr: "127.0.0.1:${port}"}
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
  const url = `http://127.0.0.1:${port}`;
  if (!(await answers(child, url))) {
    await stop();
    throw new Error(`docker-registry did not start: ${output}`);
  }
  return { host: `127.0.0.1:${port}`, url, pid: child.pid as number, stop };
}

async function answers(child: ChildProcess, url: string): Promise<boolean> {
  for (let attempt = 0; attempt < 200 && child.exitCode === null; attempt++) {
    try {
      await (await fetch(`${url}/v2/`)).arrayBuffer();
      return true;
    } catch {
      await sleep(25);
    }
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
