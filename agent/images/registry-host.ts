/** One of the addresses at which a registry is asked, and how. */
import { isIP } from "node:net";

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
