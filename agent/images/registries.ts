/**
 * Where a registry is asked: its own address, or what `certs.d/<host>/hosts.toml` says (containerd's format). The files
 * are read at every pull, so that a change needs no restart.
 */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { isAbsolute, join } from "node:path";
import { parse } from "smol-toml";
import { InvalidArgumentError, messageOf } from "../../sandbox/errors.js";

export interface RegistryHost {
  /** with the API's root and without a slash at its end: "https://registry-1.docker.io/v2" */
  baseUrl: string;
  /** may tell which digest a tag has */
  resolves: boolean;
  /** may serve manifests by digest, and blobs */
  pulls: boolean;
  skipVerify: boolean;
  /** PEM */
  ca: string[];
  client?: { certificate: string; key: string };
  headers: Record<string, string>;
  /** set for mirrors: which registry is meant */
  mirrorOf?: string;
}

export interface Registries {
  /** In the order they are to be tried; the registry itself comes last. @throws InvalidArgumentError naming the file */
  hostsOf(registry: string): Promise<RegistryHost[]>;
}

export function openRegistries(directory: string | undefined): Registries {
  return {
    async hostsOf(registry) {
      const file = directory === undefined ? undefined : await findHostsFile(directory, registry);
      if (file === undefined) return [upstream(registry)];
      try {
        return await readHosts(file, registry);
      } catch (error) {
        if (error instanceof InvalidArgumentError) throw error;
        throw new InvalidArgumentError(`${file.path} cannot be used: ${messageOf(error)}`, { cause: error });
      }
    },
  };
}

/** "localhost", 127.0.0.0/8, ::1; with or without a port */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:[0-9]+$/, "").replace(/^\[(.*)\]$/, "$1");
  return name === "localhost" || name === "::1" || (isIP(name) === 4 && name.startsWith("127."));
}

function upstream(registry: string): RegistryHost {
  const address = registry === "docker.io" ? "registry-1.docker.io" : registry;
  return {
    baseUrl: `${isLoopback(address) ? "http" : "https"}://${address}/v2`,
    resolves: true,
    pulls: true,
    skipVerify: false,
    ca: [],
    headers: {},
  };
}

interface HostsFile {
  path: string;
  directory: string;
  text: string;
}

async function findHostsFile(root: string, registry: string): Promise<HostsFile | undefined> {
  // containerd also takes a name without the colon, for file systems that cannot have one
  for (const name of [registry, registry.replace(/:([0-9]+)$/, "_$1_"), "_default"]) {
    const directory = join(root, name);
    const path = join(directory, "hosts.toml");
    try {
      return { path, directory, text: await readFile(path, "utf8") };
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== "ENOENT" && code !== "ENOTDIR") {
        throw new InvalidArgumentError(`${path} cannot be read: ${messageOf(error)}`, { cause: error });
      }
    }
  }
  return undefined;
}

async function readHosts(file: HostsFile, registry: string): Promise<RegistryHost[]> {
  const document = parse(file.text);
  const hosts: RegistryHost[] = [];
  for (const [url, settings] of Object.entries(asTable(document.host ?? {}, "host"))) {
    hosts.push(await readHost(file, url, asTable(settings, `host."${url}"`), registry));
  }
  const own = upstream(registry);
  const server = document.server;
  if (server === undefined) return [...hosts, own];
  if (typeof server !== "string") throw new Error("server is not a string");
  const last = await readHost(file, server === "" ? own.baseUrl : server, document, registry);
  return [...hosts, { ...last, resolves: true, pulls: true }];
}

async function readHost(
  file: HostsFile,
  text: string,
  settings: Record<string, unknown>,
  registry: string,
): Promise<RegistryHost> {
  const url = new URL(/^[a-z]+:\/\//.test(text) ? text : `${isLoopback(text) ? "http" : "https"}://${text}`);
  if (url.protocol !== "https:" && url.protocol !== "http:") throw new Error(`"${text}" is neither https nor http`);
  const path = url.pathname.replace(/\/+$/, "");
  const keepsPath = settings.override_path === true || path.endsWith("/v2");
  const capabilities = asStrings(settings.capabilities ?? ["pull", "resolve"], "capabilities");
  const client = await readClient(file, settings.client);
  const own = new URL(upstream(registry).baseUrl);
  return {
    baseUrl: `${url.origin}${path}${keepsPath ? "" : "/v2"}`,
    resolves: capabilities.includes("resolve"),
    pulls: capabilities.includes("pull"),
    skipVerify: settings.skip_verify === true,
    ca: await Promise.all(asStrings(settings.ca ?? [], "ca").map((name) => readBeside(file, name))),
    ...(client !== undefined && { client }),
    headers: readHeaders(settings.header),
    ...(url.host !== own.host && url.host !== registry && { mirrorOf: registry }),
  };
}

/** A file with certificate and key, or a list of pairs of which the first is used. */
async function readClient(file: HostsFile, value: unknown): Promise<RegistryHost["client"]> {
  if (value === undefined) return undefined;
  const first: unknown = Array.isArray(value) ? value[0] : value;
  const names = asStrings(first, "client");
  const certificate = await readBeside(file, names[0] ?? "");
  const key = names[1] === undefined || names[1] === "" ? certificate : await readBeside(file, names[1]);
  return { certificate, key };
}

function readHeaders(value: unknown): Record<string, string> {
  if (value === undefined) return {};
  const entries = Object.entries(asTable(value, "header"));
  return Object.fromEntries(entries.map(([name, item]) => [name.toLowerCase(), asStrings(item, name).join(", ")]));
}

function readBeside(file: HostsFile, name: string): Promise<string> {
  return readFile(isAbsolute(name) ? name : join(file.directory, name), "utf8");
}

function asTable(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${name} is no table`);
  return value as Record<string, unknown>;
}

function asStrings(value: unknown, name: string): string[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.map((item) => {
    if (typeof item !== "string") throw new Error(`${name} is neither a string nor a list of strings`);
    return item;
  });
}
