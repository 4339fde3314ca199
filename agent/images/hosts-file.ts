/** One registry's directory: a hosts.toml as containerd reads it, or certificates as Docker lays them out. */
import { X509Certificate } from "node:crypto";
import { readdir } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { createSecureContext } from "node:tls";
import { isDeepStrictEqual } from "node:util";
import { parse, TomlError } from "smol-toml";
import { FailedPreconditionError, messageOf } from "../../sandbox/errors.js";
import { readSmallFile } from "../../sandbox/small-files.js";
import { type RegistryHost, upstream } from "./registry-host.js";

type Table = Record<string, unknown>;

/** What is wrong with a setting; the reader of the file adds which file and line that is. */
class SettingError extends Error {
  constructor(
    /** of the table and the setting */
    readonly keys: readonly string[],
    message: string,
  ) {
    super(message);
  }
}

/**
 * The hosts of a registry in the file's order, the registry itself last.
 * @throws FailedPreconditionError naming the file, and the line when it is known
 */
export async function readHostDirectory(directory: string, registry: string): Promise<RegistryHost[]> {
  const path = join(directory, "hosts.toml");
  let text = "";
  try {
    text = await readSmallFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
      throw new FailedPreconditionError(`${path} cannot be read: ${messageOf(error)}`, { cause: error });
    }
  }
  try {
    if (text.trim() === "") return [{ ...upstream(registry), ...(await readCertificates(directory)) }];
    return await readHosts(parse(text), directory, registry);
  } catch (error) {
    throw new FailedPreconditionError(`${placeOf(error, path, text)}: ${reasonOf(error)}`, { cause: error });
  }
}

async function readHosts(document: Table, directory: string, registry: string): Promise<RegistryHost[]> {
  const hosts: RegistryHost[] = [];
  for (const [address, settings] of Object.entries(asTable(document.host ?? {}, ["host"]))) {
    const keys = ["host", address];
    hosts.push(await new HostReader(directory, registry, keys, asTable(settings, keys)).host(address));
  }
  const root = new HostReader(directory, registry, [], document);
  const { server = "" } = document;
  if (typeof server !== "string") throw new SettingError(["server"], "server is no string");
  const own = server === "" ? await root.upstream() : await root.host(server);
  return hosts.some((host) => asksTheSame(host, own)) ? hosts : [...hosts, own];
}

/** A registry that is listed among its hosts, too, is asked once, unless it is to be reached otherwise than there. */
function asksTheSame(listed: RegistryHost, own: RegistryHost): boolean {
  const isCovered = (listed.resolves || !own.resolves) && (listed.pulls || !own.pulls);
  const hasOwnSettings = own.skipVerify || own.triesTls || own.ca.length + own.clients.length > 0;
  return (
    listed.baseUrl === own.baseUrl &&
    isCovered &&
    (!hasOwnSettings || isDeepStrictEqual({ ...listed, resolves: own.resolves, pulls: own.pulls }, own))
  );
}

/** Reads the settings of one host: those at the top of the file are the registry's own. */
class HostReader {
  constructor(
    private readonly directory: string,
    private readonly registry: string,
    private readonly keys: readonly string[],
    private readonly settings: Table,
  ) {}

  async host(address: string): Promise<RegistryHost> {
    const place = this.keys.length > 0 ? this.keys : ["server"];
    const text = /^https?:\/\//.test(address) ? address : `https://${address}`;
    if (!URL.canParse(text) || /^[a-z]+:\/\//.test(address) !== /^https?:\/\//.test(address)) {
      throw new SettingError(place, `"${address}" is neither a host nor an http or https address`);
    }
    const url = new URL(text);
    if (url.username !== "" || url.password !== "") {
      throw new SettingError(place, "an address has no user name: credentials come with the pull, or as a header");
    }
    const path = url.pathname.replace(/\/+$/, "");
    const keepsPath = this.#flag("override_path") || path.endsWith("/v2");
    const hasTls = ["ca", "client", "skip_verify"].some((name) => this.settings[name] !== undefined);
    const own = new URL(upstream(this.registry).baseUrl);
    return {
      baseUrl: `${url.origin}${path}${keepsPath ? "" : "/v2"}`,
      // as containerd does; port 80 is clear
      triesTls: url.protocol === "http:" && hasTls && url.port !== "",
      skipVerify: false,
      ...this.#capabilities(),
      ...(await this.#connection()),
      ...(url.host !== own.host && url.host !== this.registry && { mirrorOf: this.registry }),
    };
  }

  /** Capabilities are not asked: somebody has to be. */
  async upstream(): Promise<RegistryHost> {
    return { ...upstream(this.registry), ...(await this.#connection()) };
  }

  async #connection(): Promise<Pick<RegistryHost, "ca" | "clients" | "headers"> & Partial<RegistryHost>> {
    const dialTimeoutMs = this.#duration("dial_timeout");
    return {
      ...(this.settings.skip_verify !== undefined && { skipVerify: this.#flag("skip_verify") }),
      ca: await Promise.all(this.#strings("ca").map((name) => this.#authority(name))),
      clients: await this.#clients(),
      headers: this.#headers(),
      ...(dialTimeoutMs !== undefined && { dialTimeoutMs }),
    };
  }

  #capabilities(): Pick<RegistryHost, "resolves" | "pulls"> {
    const named = this.#strings("capabilities").map((name) => name.toLowerCase());
    const unknown = named.find((name) => !["pull", "resolve", "push"].includes(name));
    if (unknown !== undefined) this.#refuse("capabilities", `"${unknown}" is not pull, resolve or push`);
    return named.length === 0
      ? { resolves: true, pulls: true }
      : { resolves: named.includes("resolve"), pulls: named.includes("pull") };
  }

  /** A file, a list of files, or a list of pairs of a certificate's and a key's file. */
  async #clients(): Promise<RegistryHost["clients"]> {
    const value = this.settings.client;
    const list: unknown[] = value === undefined ? [] : Array.isArray(value) ? value : [value];
    return Promise.all(
      list.map(async (item) => {
        const names: unknown[] = Array.isArray(item) ? item : [item, ""];
        const [certificate, key] = names;
        if (names.length !== 2 || typeof certificate !== "string" || typeof key !== "string") {
          return this.#refuse("client", "client is no file, no list of files and no list of pairs of files");
        }
        try {
          return await readClient(this.#path(certificate), this.#path(key === "" ? certificate : key));
        } catch (error) {
          return this.#refuse("client", messageOf(error));
        }
      }),
    );
  }

  async #authority(name: string): Promise<string> {
    try {
      return await readAuthority(this.#path(name));
    } catch (error) {
      return this.#refuse("ca", messageOf(error));
    }
  }

  #headers(): Record<string, string> {
    const { header = {} } = this.settings;
    const keys = [...this.keys, "header"];
    const entries = Object.entries(asTable(header, keys)).map(([name, value]): [string, string] => {
      const text = asStrings(value, [...keys, name]).join(", ");
      if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(name) || !/^[\t\x20-\x7e\x80-\xff]*$/.test(text)) {
        throw new SettingError([...keys, name], `"${name}" is no header that can be sent`);
      }
      return [name.toLowerCase(), text];
    });
    return Object.fromEntries(entries);
  }

  #flag(name: string): boolean {
    const { [name]: value = false } = this.settings;
    if (typeof value === "boolean") return value;
    return this.#refuse(name, `${name} is neither true nor false`);
  }

  #strings(name: string): string[] {
    const { [name]: value } = this.settings;
    return value === undefined ? [] : asStrings(value, [...this.keys, name]);
  }

  #duration(name: string): number | undefined {
    const { [name]: value } = this.settings;
    if (value === undefined || value === "") return undefined;
    const ms = typeof value === "string" ? parseDuration(value) : undefined;
    return ms ?? this.#refuse(name, `${name} is no duration such as "3s" or "1m30s"`);
  }

  #path(name: string): string {
    return isAbsolute(name) ? name : join(this.directory, name);
  }

  #refuse(name: string, why: string): never {
    throw new SettingError([...this.keys, name], why);
  }
}

/** Without a hosts.toml: *.crt are authorities, NAME.cert and NAME.key are a client's. */
async function readCertificates(directory: string): Promise<Pick<RegistryHost, "ca" | "clients">> {
  const names = (await readdir(directory)).sort();
  const pathOf = (name: string): string => join(directory, name);
  const certificates = names.filter((name) => name.endsWith(".cert"));
  return {
    ca: await Promise.all(names.filter((name) => name.endsWith(".crt")).map((name) => readAuthority(pathOf(name)))),
    clients: await Promise.all(
      certificates.map((name) => readClient(pathOf(name), pathOf(name.replace(/\.cert$/, ".key")))),
    ),
  };
}

async function readAuthority(path: string): Promise<string> {
  const text = await readSmallFile(path);
  try {
    new X509Certificate(text);
  } catch (error) {
    throw new Error(`${path} holds no certificate: ${messageOf(error)}`);
  }
  return text;
}

async function readClient(certificatePath: string, keyPath: string): Promise<{ certificate: string; key: string }> {
  const [certificate, key] = await Promise.all([readSmallFile(certificatePath), readSmallFile(keyPath)]);
  try {
    createSecureContext({ ca: [], cert: certificate, key });
  } catch (error) {
    throw new Error(`${certificatePath} and ${keyPath} are no certificate and its key: ${messageOf(error)}`);
  }
  return { certificate, key };
}

const unitsMs: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Go's durations, in milliseconds; undefined: it is none, or not above zero. */
function parseDuration(text: string): number | undefined {
  if (!/^(?:[0-9]+(?:\.[0-9]*)?(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  const parts = text.matchAll(/([0-9.]+)([a-zµ]+)/g);
  const ms = [...parts].reduce((sum, [, number, unit = ""]) => sum + Number(number) * (unitsMs[unit] ?? 0), 0);
  return ms > 0 ? Math.max(1, Math.round(ms)) : undefined;
}

function asTable(value: unknown, keys: readonly string[]): Table {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Table;
  throw new SettingError(keys, `${keys.at(-1)} is no table`);
}

function asStrings(value: unknown, keys: readonly string[]): string[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.map((item) => {
    if (typeof item === "string") return item;
    throw new SettingError(keys, `${keys.at(-1)} is neither a string nor a list of strings`);
  });
}

function placeOf(error: unknown, path: string, text: string): string {
  if (error instanceof TomlError) return `${path}:${error.line}:${error.column}`;
  const line = error instanceof SettingError ? lineOf(text, error.keys) : undefined;
  return line === undefined ? path : `${path}:${line}`;
}

const maxReasonLength = 500;

function reasonOf(error: unknown): string {
  // the parser goes on with a drawing of the place
  return (messageOf(error).split("\n")[0] ?? "").slice(0, maxReasonLength);
}

/** Where a setting, or else its table, stands in the text; from 1. */
function lineOf(text: string, keys: readonly string[]): number | undefined {
  const wanted = keys.join("\0");
  let table: string[] = [];
  let tableLine: number | undefined;
  for (const [index, line] of text.split("\n").entries()) {
    const header = /^\s*\[([^[].*)\]\s*(?:#.*)?$/.exec(line)?.[1];
    const setting = /^\s*((?:"[^"]*"|'[^']*'|[^=#"'])+)=/.exec(line)?.[1];
    if (header !== undefined) {
      table = splitKeys(header);
      const name = table.join("\0");
      if (name === wanted) return index + 1;
      if (wanted.startsWith(`${name}\0`)) tableLine = index + 1;
    } else if (setting !== undefined && [...table, ...splitKeys(setting)].join("\0") === wanted) return index + 1;
  }
  return tableLine;
}

function splitKeys(text: string): string[] {
  const parts = text.matchAll(/"([^"]*)"|'([^']*)'|([^.\s"']+)/g);
  return [...parts].map(([, double, single, bare]) => double ?? single ?? bare ?? "");
}
