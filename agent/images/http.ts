/**
 * GET with the manners that registries need: a stall limit instead of a total one, redirects that never carry
 * credentials elsewhere, proxies, errors that say which server failed. undici is loaded at the first request.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";
import { BerthError, CancelledError, UnavailableError } from "../../sandbox/errors.js";
import { followBody } from "./http-body.js";
import { exchange, reusingConnector } from "./http-exchange.js";
import { proxyFor } from "./proxies.js";
import type { RegistryHost } from "./registry-host.js";
import { type Patience, TransientError } from "./transient.js";
import { secureContextOf } from "./trust.js";

export interface HttpResponse {
  status: number;
  headers: IncomingHttpHeaders;
  /** "host:port" of who has answered */
  from: string;
  /** a redirect led away from the server that was asked: what this one wants is not for our credentials */
  elsewhere: boolean;
  /** Has to be read or destroyed. What it hands out is valid until the next piece is asked for. */
  body: AsyncIterable<Uint8Array> & { destroy(): void };
}

export interface HttpRequest {
  url: string;
  headers: Record<string, string>;
  signal: AbortSignal;
  /** a form to POST instead of a GET */
  form?: URLSearchParams;
}

export interface HttpClient {
  /**
   * @throws UnavailableError when the server cannot be reached (TransientError when that may be so for a moment only),
   *   FailedPreconditionError for a proxy that cannot be used, CancelledError after the signal
   */
  request(request: HttpRequest): Promise<HttpResponse>;
  close(): Promise<void>;
}

const formType = "application/x-www-form-urlencoded";
const maxRedirects = 5;
const redirectStatuses = new Set([301, 302, 303, 307, 308]);

type Trust = Pick<RegistryHost, "skipVerify" | "ca" | "clients">;
const noHost: Trust = { skipVerify: false, ca: [], clients: [] };

/** @param host its trust and limits are for its own origin; other origins that it redirects to are checked as usual */
export async function openHttpClient(host: RegistryHost, { stallMs }: Patience): Promise<HttpClient> {
  const undici = (await import("undici")).default;
  const limits = { headersTimeout: stallMs, bodyTimeout: stallMs };
  const origin = new URL(host.baseUrl).host;
  const agents = new Map<string, Promise<Dispatcher>>();

  const open = async (trust: Trust, timeout: number, proxy: URL | undefined): Promise<Dispatcher> => {
    const tls = { timeout, rejectUnauthorized: !trust.skipVerify, secureContext: await secureContextOf(trust) };
    if (proxy === undefined)
      return new undici.Agent({ ...limits, connect: reusingConnector(undici.buildConnector, tls) });
    const proxyTls = { timeout, secureContext: await secureContextOf(noHost) };
    // many proxies tunnel for https only
    return new undici.ProxyAgent({ ...limits, uri: proxy.href, proxyTunnel: false, requestTls: tls, proxyTls });
  };
  /** Made at the first request: one for the host itself, one for whoever else is asked. */
  const agentFor = (url: URL): Promise<Dispatcher> => {
    const own = url.host === origin;
    const proxy = proxyFor(url);
    const key = `${own} ${proxy?.href ?? ""}`;
    const agent =
      agents.get(key) ?? open(own ? host : noHost, (own ? host.dialTimeoutMs : undefined) ?? stallMs, proxy);
    agents.set(key, agent);
    return agent;
  };
  let { triesTls } = host;
  const mayBeSecure = (url: URL): boolean => triesTls && url.protocol === "http:" && url.host === origin;

  const send = async (request: HttpRequest, url: URL, headers: Record<string, string>): Promise<HttpResponse> => {
    const { signal, form } = request;
    const place = proxyFor(url) === undefined ? url.host : `${url.host} (by the proxy ${proxyFor(url)?.host})`;
    // undici's own limit begins anew with every line that comes
    const slow = new AbortController();
    const timer = setTimeout(() => slow.abort(), 2 * stallMs);
    const explain = (error: unknown): Error => asOurs(error, place, signal, slow.signal);
    try {
      const answer = await exchange(
        await agentFor(url),
        url,
        form === undefined
          ? { method: "GET", headers }
          : { method: "POST", headers: { ...headers, "content-type": formType }, body: form.toString() },
        AbortSignal.any([signal, slow.signal]),
      );
      const { status, body } = answer;
      const chunks = followBody(body, { host: place, stallMs, explain });
      return {
        status,
        headers: answer.headers,
        from: url.host,
        elsewhere: false,
        body: { [Symbol.asyncIterator]: () => chunks, destroy: () => void body.destroy() },
      };
    } catch (error) {
      throw explain(error);
    } finally {
      clearTimeout(timer);
    }
  };

  /** Of an address that may speak either: by TLS, and in the clear when it turns out not to. */
  const sendByEither = async (
    request: HttpRequest,
    url: URL,
    headers: Record<string, string>,
  ): Promise<HttpResponse> => {
    if (!mayBeSecure(url)) return send(request, url, headers);
    try {
      return await send(request, secured(url), headers);
    } catch (error) {
      if (!speaksNoTls(error)) throw error;
      triesTls = false;
      return send(request, url, headers);
    }
  };

  /** What an address has become that may speak either, once somebody has answered. */
  const asked = (url: URL): URL => (mayBeSecure(url) ? secured(url) : url);
  // where both are tried, a server that believes that it speaks in the clear means itself
  const isSameServer = (one: URL, other: URL): boolean =>
    one.origin === other.origin || (mayBeSecure(other) && one.origin === secured(other).origin);

  return {
    async request(request) {
      let url = new URL(request.url);
      let { headers } = request;
      let elsewhere = false;
      for (let redirects = 0; ; redirects++) {
        const response = await sendByEither(request, url, headers);
        const { location } = response.headers;
        if (!redirectStatuses.has(response.status) || location === undefined || request.form !== undefined) {
          return { ...response, elsewhere };
        }
        response.body.destroy();
        if (redirects === maxRedirects) {
          throw new UnavailableError(`${url.host} redirects more than ${maxRedirects} times`);
        }
        const next = redirectTarget(asked(url), location, isSameServer);
        if (!isSameServer(asked(url), next)) {
          elsewhere = true;
          headers = publicHeaders(headers);
        }
        url = next;
      }
    },
    async close() {
      for (const agent of await Promise.allSettled(agents.values())) {
        if (agent.status === "fulfilled") await agent.value.destroy();
      }
    },
  };
}

/** The same address by https. */
function secured(url: URL): URL {
  const secure = new URL(url);
  secure.protocol = "https:";
  return secure;
}

function redirectTarget(from: URL, location: string, isSameServer: (one: URL, other: URL) => boolean): URL {
  const target = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  if (target === undefined || (target.protocol !== "https:" && target.protocol !== "http:")) {
    throw new UnavailableError(`${from.host} redirects to "${location.slice(0, 200)}", which is no http address`);
  }
  if (from.protocol === "https:" && target.protocol === "http:" && !isSameServer(from, target)) {
    throw new UnavailableError(`${from.host} redirects from https to http (${target.host})`);
  }
  return target;
}

/** Headers of hosts.toml may be secrets as well: only what every server may know goes on. */
function publicHeaders({ accept, range }: Record<string, string>): Record<string, string> {
  return { ...(accept !== undefined && { accept }), ...(range !== undefined && { range }) };
}

/** What a server of plain HTTP makes of a TLS greeting: an answer that is no TLS, or none. */
function speaksNoTls(error: unknown): boolean {
  const { code, message } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
  return code === "ERR_SSL_WRONG_VERSION_NUMBER" || (code === "ECONNRESET" && /before secure TLS/.test(message));
}

/** Of connections that stood, or nearly; a server that refuses one, or does not answer at all, does so for longer. */
const passingCodes = new Set(["ECONNRESET", "EPIPE", "EAI_AGAIN", "UND_ERR_SOCKET", "UND_ERR_BODY_TIMEOUT"]);

function asOurs(error: unknown, place: string, signal: AbortSignal, slow: AbortSignal): BerthError {
  if (error instanceof BerthError) return error;
  if (signal.aborted) return new CancelledError(`the request to ${place} was cancelled`, { cause: error });
  if (slow.aborted) return new UnavailableError(`${place} does not come to its answer`, { cause: error });
  const { code, message } = error as NodeJS.ErrnoException;
  const why = code === undefined || message.includes(code) ? message : `${code}: ${message}`;
  const Kind = passingCodes.has(code ?? "") ? TransientError : UnavailableError;
  return new Kind(`${place} failed: ${why}`, { cause: error });
}
