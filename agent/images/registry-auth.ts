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

/**
 * Of the forms that an AuthConfig can have.
 * @throws InvalidArgumentError when `auth` is no base64 of "username:password"
 */
export function basicCredentialsOf(auth: RegistryAuth | undefined): BasicCredentials | undefined {
  if (auth?.username) return { username: auth.username, password: auth.password ?? "" };
  if (!auth?.auth) return undefined;
  const isBase64 = /^[A-Za-z0-9+/_-]+={0,2}\s*$/.test(auth.auth);
  const decoded = isBase64 ? Buffer.from(auth.auth, "base64").toString("utf8").replace(/\0+$/, "") : "";
  const colon = decoded.indexOf(":");
  if (colon <= 0) throw new InvalidArgumentError('auth.auth is not the base64 form of "username:password"');
  return { username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
}

/** Docker's files keep an identity token as the password of a user of this name. */
const tokenUser = "<token>";

/** An OAuth2 refresh token, if there is one. */
export function identityTokenOf(auth: RegistryAuth | undefined): string | undefined {
  if (auth?.identityToken) return auth.identityToken;
  const credentials = basicCredentialsOf(auth);
  return credentials?.username === tokenUser && credentials.password !== "" ? credentials.password : undefined;
}

export function basicHeader(credentials: BasicCredentials): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`;
}

/** @throws InvalidArgumentError when it cannot be sent */
export function bearerHeader(token: string): string {
  if (!isToken(token)) throw new InvalidArgumentError("auth.registry_token has characters that no token has");
  return `Bearer ${token}`;
}

export function isToken(text: unknown): text is string {
  return typeof text === "string" && /^[\x21-\x7e]+$/.test(text);
}

const dockerHub = /^(?:index\.|registry-1\.)?docker\.io$/;

/**
 * Whether credentials may be shown to a registry host: those with a server address to that server only, the others to
 * every host that is configured for the image's registry.
 * @param host as URL.host has it: in lowercase, without its scheme's own port
 */
export function authIsFor(auth: RegistryAuth, host: string): boolean {
  const address = auth.serverAddress?.trim() ?? "";
  if (address === "") return true;
  const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(address) ? address : `https://${address}`;
  if (!URL.canParse(url)) return false;
  const server = new URL(url).host;
  return server === host || (dockerHub.test(server) && dockerHub.test(host));
}
