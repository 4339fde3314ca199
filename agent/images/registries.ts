/**
 * Where a registry is asked: its own address, or what `<directory>/<host>/hosts.toml` says (containerd's format; see
 * docs/registries.md). The files are read at every pull, so that a change needs no restart.
 */
import { stat } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { FailedPreconditionError, messageOf } from "../../sandbox/errors.js";
import { readHostDirectory } from "./hosts-file.js";

export interface RegistryHost {
  /** with the API's root and without a slash at its end: "https://registry-1.docker.io/v2" */
  baseUrl: string;
  /** of an http address: https is tried first, because nothing says which of the two it speaks */
  triesTls: boolean;
  /** may tell which digest a tag has */
  resolves: boolean;
  /** may serve manifests by digest, and blobs */
  pulls: boolean;
  skipVerify: boolean;
  /** PEM; besides the certificates that the system trusts */
  ca: readonly string[];
  /** PEM */
  clients: readonly { certificate: string; key: string }[];
  /** names in lowercase */
  headers: Readonly<Record<string, string>>;
  /** of a connection; undefined: as long as a stall may be */
  dialTimeoutMs?: number;
  /** set for mirrors: which registry is meant */
  mirrorOf?: string;
}

export interface Registries {
  /**
   * In the order they are to be tried; the registry itself comes last.
   * @throws FailedPreconditionError naming the file, and the line when it is known
   */
  hostsOf(registry: string): Promise<RegistryHost[]>;
}

/** @param directories as containerd's config_path: the first that has something for a registry counts; absent: none */
export function openRegistries(directories: readonly string[] = []): Registries {
  return {
    async hostsOf(registry) {
      for (const root of directories) {
        for (const name of directoryNames(registry)) {
          const directory = join(root, name);
          if (await isThere(directory)) return readHostDirectory(directory, registry);
        }
      }
      return [upstream(registry)];
    },
  };
}

/** "r.example_5000_" is for file systems that cannot have a colon. */
function directoryNames(registry: string): string[] {
  const withoutColon = registry.replace(/:([0-9]+)$/, "_$1_");
  return [...new Set([withoutColon, registry, "_default"])];
}

async function isThere(directory: string): Promise<boolean> {
  try {
    return (await stat(directory)).isDirectory();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return false;
    throw new FailedPreconditionError(`${directory} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** "localhost", 127.0.0.0/8, ::1; with or without a port */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:[0-9]+$/, "").replace(/^\[(.*)\]$/, "$1");
  return name === "localhost" || name === "::1" || (isIP(name) === 4 && name.startsWith("127."));
}

/** The registry itself, of which no file tells anything: https, unless it is on this machine. */
export function upstream(registry: string): RegistryHost {
  const address = registry === "docker.io" ? "registry-1.docker.io" : registry;
  const port = /:([0-9]+)$/.exec(registry.replace(/^\[.*\]/, ""))?.[1];
  const isLocal = isLoopback(address);
  const mayBePlain = isLocal && port !== undefined && port !== "443";
  return {
    baseUrl: `${mayBePlain ? "http" : "https"}://${address}/v2`,
    triesTls: mayBePlain && port !== "80",
    resolves: true,
    pulls: true,
    // nobody is between this machine and itself
    skipVerify: isLocal,
    ca: [],
    clients: [],
    headers: {},
  };
}
