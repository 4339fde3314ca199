/** What a registry wants to be shown before it answers: RFC 7235 challenges, basic and bearer tokens. */
import { InvalidArgumentError } from "../../sandbox/errors.js";

/** The CRI's AuthConfig; empty strings are as good as absent. Never logged. */
export interface RegistryAuth {
  username?: string;
  password?: string;
  /** base64 of "username:password" */
  auth?: string;
  serverAddress?: string;
  /** an OAuth2 refresh token */
  identityToken?: string;
  /** a bearer token for the registry itself */
  registryToken?: string;
}

export interface Challenge {
  /** lowercase: "bearer", "basic" */
  scheme: string;
  /** names in lowercase */
  parameters: Record<string, string>;
}

export interface BasicCredentials {
  username: string;
  password: string;
}

/** Reads a WWW-Authenticate header, which may hold several challenges. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: Challenge[] = [];
  const token = /([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?/g;
  for (const [, name = "", quoted, plain] of header.slice(0, 16_384).matchAll(token)) {
    const value = quoted?.replace(/\\(.)/g, "$1") ?? plain;
    const current = challenges.at(-1);
    if (value === undefined) challenges.push({ scheme: name.toLowerCase(), parameters: {} });
    else if (current !== undefined) current.parameters[name.toLowerCase()] = value;
  }
  return challenges;
}

/** @throws InvalidArgumentError when `auth` is no base64 of "username:password" */
export function basicCredentialsOf(auth: RegistryAuth | undefined): BasicCredentials | undefined {
  if (auth?.username) return { username: auth.username, password: auth.password ?? "" };
  if (!auth?.auth) return undefined;
  const decoded = Buffer.from(auth.auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = decoded.indexOf(":");
  if (colon <= 0) throw new InvalidArgumentError('auth.auth is not the base64 form of "username:password"');
  return { username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
}

export function basicHeader(credentials: BasicCredentials): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`;
}

/**
 * Whether credentials that were given for one server may be shown to this registry host. Without a server address they
 * are for the image's registry, whatever mirror stands in for it.
 */
export function authIsFor(auth: RegistryAuth, registry: string, host: string): boolean {
  const address = auth.serverAddress;
  if (!address) return true;
  const server = address.replace(/^https?:\/\//, "").split("/")[0] ?? "";
  const isDockerHub = (name: string) => /^(?:index\.|registry-1\.)?docker\.io$/.test(name);
  return (
    server === host || server === registry || (isDockerHub(server) && (isDockerHub(host) || isDockerHub(registry)))
  );
}
