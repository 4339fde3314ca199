/** The Authorization header for one repository of one registry host: made when it is asked for, renewed when it expires. */
import { PermissionDeniedError, UnavailableError } from "../../sandbox/errors.js";
import type { HttpClient, HttpResponse } from "./http.js";
import { readBody } from "./http-body.js";
import { failureOf } from "./http-failures.js";
import { shapeProblem } from "./json-shape.js";
import {
  basicCredentialsOf,
  basicHeader,
  bearerHeader,
  type Challenge,
  identityTokenOf,
  isToken,
  parseChallenges,
  type RegistryAuth,
} from "./registry-auth.js";

const maxTokenBytes = 1024 ** 2;

export interface AuthorizerOptions {
  http: HttpClient;
  /** of the registry's API */
  origin: URL;
  repository: string;
  /** what may be shown to this host */
  auth: RegistryAuth | undefined;
}

export class Authorizer {
  /** undefined: nothing has been asked for yet */
  header: string | undefined;
  readonly #options: AuthorizerOptions;
  #renewal: Promise<void> | undefined;

  /** @throws InvalidArgumentError for credentials that cannot be sent */
  constructor(options: AuthorizerOptions) {
    this.#options = options;
    const { auth } = options;
    basicCredentialsOf(auth);
    if (auth?.registryToken) this.header = bearerHeader(auth.registryToken);
  }

  /**
   * Answers a 401. Requests that are refused at the same time share one answer.
   * @param refused the header that was not good enough
   * @param what names the image or blob in errors
   */
  async renew(response: HttpResponse, refused: string | undefined, what: string, signal: AbortSignal): Promise<void> {
    while (this.#renewal !== undefined) await this.#renewal.catch(() => undefined);
    if (this.header !== refused || signal.aborted) return;
    const challenges = parseChallenges([response.headers["www-authenticate"] ?? ""].flat().join(", "));
    this.#renewal = this.#answer(challenges, what, signal);
    try {
      await this.#renewal;
    } finally {
      this.#renewal = undefined;
    }
  }

  async #answer(challenges: readonly Challenge[], what: string, signal: AbortSignal): Promise<void> {
    const { auth, origin } = this.#options;
    const basic = basicCredentialsOf(auth);
    if (auth?.registryToken && basic === undefined && identityTokenOf(auth) === undefined) {
      throw new PermissionDeniedError(`${origin.host} denies ${what} to the registry token (HTTP 401)`);
    }
    const bearer = challenges.find(({ scheme }) => scheme === "bearer");
    if (bearer !== undefined) this.header = `Bearer ${await this.#fetchToken(bearer, what, signal)}`;
    else if (basic !== undefined && challenges.some(({ scheme }) => scheme === "basic"))
      this.header = basicHeader(basic);
    else throw new PermissionDeniedError(`${origin.host} wants credentials for ${what}`);
  }
  async #fetchToken(challenge: Challenge, what: string, signal: AbortSignal): Promise<string> {
    const { http, auth, repository } = this.#options;
    const realm = this.#tokenServer(challenge);
    const { service, scope = `repository:${repository}:pull` } = challenge.parameters;
    const parameters = new URLSearchParams(service && { service });
    const identityToken = identityTokenOf(auth);
    let response: HttpResponse;
    if (identityToken !== undefined) {
      parameters.set("scope", scope);
      parameters.set("grant_type", "refresh_token");
      parameters.set("refresh_token", identityToken);
      parameters.set("client_id", "berth");
      response = await http.request({ url: realm.href, headers: {}, signal, form: parameters });
    } else {
      // a list, which some token servers take as one scope
      for (const one of scope.split(" ").filter((word) => word !== "")) parameters.append("scope", one);
      for (const [key, value] of parameters) realm.searchParams.append(key, value);
      const credentials = basicCredentialsOf(auth);
      const headers: Record<string, string> = credentials ? { authorization: basicHeader(credentials) } : {};
      response = await http.request({ url: realm.href, headers, signal });
    }
    if (response.status !== 200) {
      // that is how OAuth2 denies
      if (response.status === 400) response.status = 401;
      throw await failureOf(response, `a token for ${what}`);
    }
    const token = readToken(await readBody(response, maxTokenBytes, `the token of ${realm.host}`));
    if (token === undefined) throw new UnavailableError(`${realm.host} answered without a token for ${what}`);
    return token;
  }

  #tokenServer(challenge: Challenge): URL {
    const { origin } = this.#options;
    const { realm = "" } = challenge.parameters;
    const url = URL.canParse(realm) ? new URL(realm) : undefined;
    if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:")) {
      throw new UnavailableError(`${origin.host} names no token server: "${realm.slice(0, 200)}"`);
    }
    if (origin.protocol === "https:" && url.protocol === "http:") {
      throw new UnavailableError(`${origin.host} names a token server without https: ${url.host}`);
    }
    return url;
  }
}

function readToken(bytes: Buffer): string | undefined {
  if (shapeProblem(bytes) !== undefined) return undefined;
  try {
    const { token, access_token: accessToken } = JSON.parse(bytes.toString("utf8")) as Record<string, unknown>;
    return [token, accessToken].find(isToken);
  } catch {
    return undefined;
  }
}
