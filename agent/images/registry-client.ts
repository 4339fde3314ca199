/** One repository on one registry host, by the OCI distribution specification: manifests and blobs, with tokens. */
import {
  InternalError,
  InvalidArgumentError,
  NotFoundError,
  PermissionDeniedError,
  UnavailableError,
} from "../../sandbox/errors.js";
import { algorithmOf, digestOf, digestPattern, verified } from "./digest.js";
import { type HttpClient, type HttpResponse, openHttpClient, readBody } from "./http.js";
import { type Descriptor, manifestTypes, maxManifestBytes } from "./manifest.js";
import { formatName, formatReference, type Reference } from "./reference.js";
import type { RegistryHost } from "./registries.js";
import {
  authIsFor,
  basicCredentialsOf,
  basicHeader,
  type Challenge,
  parseChallenges,
  type RegistryAuth,
} from "./registry-auth.js";

export interface FetchedManifest {
  bytes: Buffer;
  digest: string;
  contentType: string;
}

export interface RegistryClient {
  /**
   * @param version a tag or a digest
   * @throws NotFoundError, PermissionDeniedError, UnavailableError, InternalError (another digest)
   */
  manifest(version: string, signal: AbortSignal): Promise<FetchedManifest>;
  /** Verified by digest and size while it is read. */
  blob(descriptor: Pick<Descriptor, "digest" | "size">, signal: AbortSignal): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

const maxTokenBytes = 1024 ** 2;

/** @param reference names the repository, and the image in errors */
export async function openRegistryClient(
  host: RegistryHost,
  reference: Reference,
  auth: RegistryAuth | undefined,
): Promise<RegistryClient> {
  const http = await openHttpClient(host);
  const origin = new URL(host.baseUrl);
  const name = `${formatName(reference)}`;
  const usable = auth !== undefined && authIsFor(auth, reference.registry, origin.host) ? auth : undefined;
  let authorization = usable?.registryToken ? `Bearer ${usable.registryToken}` : undefined;

  const urlOf = (kind: "manifests" | "blobs", what: string): string => {
    const namespace = host.mirrorOf === undefined ? "" : `?ns=${encodeURIComponent(host.mirrorOf)}`;
    return `${host.baseUrl}/${reference.repository}/${kind}/${what}${namespace}`;
  };

  const get = async (url: string, accept: string, what: string, signal: AbortSignal): Promise<HttpResponse> => {
    const ask = (): Promise<HttpResponse> => {
      const headers = { ...host.headers, accept, ...(authorization !== undefined && { authorization }) };
      return http.request({ url, headers, signal });
    };
    let response = await ask();
    if (response.status === 401) {
      const challenges = parseChallenges([response.headers["www-authenticate"] ?? ""].flat().join(", "));
      response.body.destroy();
      authorization = await answerChallenges(http, challenges, { origin, reference, auth: usable, what, signal });
      response = await ask();
    }
    if (response.status === 200) return response;
    response.body.destroy();
    throw failureOf(response.status, origin.host, what);
  };

  return {
    async manifest(version, signal) {
      const what = digestPattern.test(version) ? `${name}@${version}` : formatReference(reference);
      const response = await get(urlOf("manifests", version), manifestTypes.join(", "), what, signal);
      const bytes = await readBody(response, maxManifestBytes, `the manifest of ${what}`);
      const digest = digestOf(bytes, digestPattern.test(version) ? algorithmOf(version) : "sha256");
      if (digestPattern.test(version) && digest !== version) {
        throw new InternalError(`${origin.host} sent another manifest for ${name}@${version}: its digest is ${digest}`);
      }
      return { bytes, digest, contentType: [response.headers["content-type"] ?? ""].flat()[0] ?? "" };
    },
    async *blob(descriptor, signal) {
      const what = `blob ${descriptor.digest} of ${name}`;
      const response = await get(urlOf("blobs", descriptor.digest), "application/octet-stream, */*", what, signal);
      try {
        yield* verified(response.body, descriptor);
      } finally {
        response.body.destroy();
      }
    },
    close: () => http.close(),
  };
}

interface AuthContext {
  origin: URL;
  reference: Reference;
  auth: RegistryAuth | undefined;
  what: string;
  signal: AbortSignal;
}

/** The Authorization header that the challenges ask for. */
async function answerChallenges(http: HttpClient, challenges: Challenge[], context: AuthContext): Promise<string> {
  const bearer = challenges.find((challenge) => challenge.scheme === "bearer");
  if (bearer !== undefined) return `Bearer ${await fetchToken(http, bearer, context)}`;
  const credentials = basicCredentialsOf(context.auth);
  if (challenges.some((challenge) => challenge.scheme === "basic") && credentials !== undefined) {
    return basicHeader(credentials);
  }
  throw new PermissionDeniedError(`${context.origin.host} wants credentials for ${context.what}`);
}

async function fetchToken(http: HttpClient, challenge: Challenge, context: AuthContext): Promise<string> {
  const realm = tokenUrl(challenge, context);
  const scope = challenge.parameters.scope || `repository:${context.reference.repository}:pull`;
  const service = challenge.parameters.service;
  const credentials = basicCredentialsOf(context.auth);
  const identityToken = context.auth?.identityToken;
  const parameters = new URLSearchParams({ ...(service && { service }), scope });
  let response: HttpResponse;
  if (identityToken) {
    parameters.set("grant_type", "refresh_token");
    parameters.set("refresh_token", identityToken);
    parameters.set("client_id", "berth");
    response = await http.request({ url: realm.href, headers: {}, signal: context.signal, form: parameters });
  } else {
    for (const [key, value] of parameters) realm.searchParams.append(key, value);
    const headers: Record<string, string> = credentials ? { authorization: basicHeader(credentials) } : {};
    response = await http.request({ url: realm.href, headers, signal: context.signal });
  }
  if (response.status !== 200) {
    response.body.destroy();
    throw failureOf(response.status === 400 ? 401 : response.status, realm.host, `a token for ${context.what}`);
  }
  const text = (await readBody(response, maxTokenBytes, `the token of ${realm.host}`)).toString("utf8");
  const token = readToken(text);
  if (token === undefined) throw new UnavailableError(`${realm.host} answered without a token for ${context.what}`);
  return token;
}

function tokenUrl(challenge: Challenge, context: AuthContext): URL {
  const realm = challenge.parameters.realm ?? "";
  const url = URL.canParse(realm) ? new URL(realm) : undefined;
  if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw new UnavailableError(`${context.origin.host} names no token server: "${realm.slice(0, 200)}"`);
  }
  if (context.origin.protocol === "https:" && url.protocol === "http:") {
    throw new UnavailableError(`${context.origin.host} names a token server without https: ${url.host}`);
  }
  return url;
}

function readToken(text: string): string | undefined {
  try {
    const { token, access_token: accessToken } = JSON.parse(text) as Record<string, unknown>;
    const found = token || accessToken;
    return typeof found === "string" && found !== "" && !/[\r\n]/.test(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

function failureOf(status: number, host: string, what: string): Error {
  if (status === 404) return new NotFoundError(`${what} is not on ${host}`);
  if (status === 401 || status === 403) return new PermissionDeniedError(`${host} denies ${what} (HTTP ${status})`);
  if (status === 400) return new InvalidArgumentError(`${host} refuses the request for ${what} (HTTP 400)`);
  return new UnavailableError(`${host} answered HTTP ${status} for ${what}`);
}
