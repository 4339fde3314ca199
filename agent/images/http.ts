/**
 * GET with the manners that registries need: a stall limit instead of a total one, redirects that never carry
 * credentials elsewhere, errors that say which server failed. undici is loaded at the first request.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { Agent, Dispatcher } from "undici";
import { BerthError, CancelledError, InternalError, UnavailableError } from "../../sandbox/errors.js";
import type { RegistryHost } from "./registries.js";
import { secureContextOf } from "./trust.js";

export interface HttpResponse {
  status: number;
  headers: IncomingHttpHeaders;
  /** Has to be read or destroyed. */
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
  /** @throws UnavailableError when the server cannot be reached, CancelledError after the signal */
  request(request: HttpRequest): Promise<HttpResponse>;
  close(): Promise<void>;
}

/** No byte for this long: the server is given up. */
export const stallTimeoutMs = 30_000;
const maxRedirects = 5;
const redirectStatuses = new Set([301, 302, 303, 307, 308]);

const noHost: Pick<RegistryHost, "skipVerify" | "ca" | "clients"> = { skipVerify: false, ca: [], clients: [] };

/** @param host its trust and limits are for its own origin; other origins that it redirects to are checked as usual */
export async function openHttpClient(host: RegistryHost, timeoutMs: number = stallTimeoutMs): Promise<HttpClient> {
  const undici = await import("undici");
  const limits = { headersTimeout: timeoutMs, bodyTimeout: timeoutMs };
  const origin = new URL(host.baseUrl).host;
  // made at the first request, one for whoever else is asked
  let own: Promise<Agent> | undefined;
  let others: Promise<Agent> | undefined;
  const open = async (trust: typeof noHost, connectTimeout: number): Promise<Agent> =>
    new undici.Agent({
      ...limits,
      connect: {
        timeout: connectTimeout,
        rejectUnauthorized: !trust.skipVerify,
        secureContext: await secureContextOf(trust),
      },
    });
  const agentOf = (url: URL): Promise<Agent> => {
    if (url.host === origin) {
      own ??= open(host, host.dialTimeoutMs ?? timeoutMs);
      return own;
    }
    others ??= open(noHost, timeoutMs);
    return others;
  };
  let triesTls = host.triesTls;

  const send = async (request: HttpRequest, url: URL, headers: Record<string, string>): Promise<HttpResponse> => {
    try {
      const {
        statusCode,
        headers: answered,
        body,
      } = await undici.request(url, {
        dispatcher: await agentOf(url),
        method: request.form === undefined ? "GET" : "POST",
        headers:
          request.form === undefined ? headers : { ...headers, "content-type": "application/x-www-form-urlencoded" },
        ...(request.form !== undefined && { body: request.form.toString() }),
        signal: request.signal,
      });
      // what is destroyed unread reports its abort as an error that nobody waits for
      body.on("error", () => undefined);
      return { status: statusCode, headers: answered, body: withOurErrors(body, url, request.signal) };
    } catch (error) {
      throw asOurs(error, url, request.signal);
    }
  };

  /** Of an address that may speak either: by TLS, and in the clear when it turns out not to. */
  const sendByEither = async (
    request: HttpRequest,
    url: URL,
    headers: Record<string, string>,
  ): Promise<HttpResponse> => {
    if (!triesTls || url.protocol !== "http:" || url.host !== origin) return send(request, url, headers);
    const secure = new URL(url);
    secure.protocol = "https:";
    try {
      return await send(request, secure, headers);
    } catch (error) {
      if (!speaksNoTls(error)) throw error;
      triesTls = false;
      return send(request, url, headers);
    }
  };

  return {
    async request(request) {
      let url = new URL(request.url);
      let headers = request.headers;
      for (let redirects = 0; ; redirects++) {
        const response = await sendByEither(request, url, headers);
        const location = response.headers.location;
        if (!redirectStatuses.has(response.status) || location === undefined || request.form !== undefined) {
          return response;
        }
        response.body.destroy();
        if (redirects === maxRedirects)
          throw new UnavailableError(`${url.host} redirects more than ${maxRedirects} times`);
        const next = redirectTarget(url, location);
        if (next.origin !== url.origin) headers = withoutCredentials(headers);
        url = next;
      }
    },
    async close() {
      for (const agent of await Promise.all([own, others])) await agent?.destroy();
    },
  };
}

/** Reads a body that has to be small. @throws InternalError when it is not */
export async function readBody(response: HttpResponse, limitBytes: number, what: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.length;
    if (bytes > limitBytes) throw new InternalError(`${what} is longer than ${limitBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function redirectTarget(from: URL, location: string): URL {
  const target = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  if (target === undefined || (target.protocol !== "https:" && target.protocol !== "http:")) {
    throw new UnavailableError(`${from.host} redirects to "${location.slice(0, 200)}", which is no http address`);
  }
  if (from.protocol === "https:" && target.protocol === "http:") {
    throw new UnavailableError(`${from.host} redirects from https to http (${target.host})`);
  }
  return target;
}

function withoutCredentials(headers: Record<string, string>): Record<string, string> {
  // headers of hosts.toml may be secrets as well: only what every server may know goes on
  return headers.accept === undefined ? {} : { accept: headers.accept };
}

function withOurErrors(body: Dispatcher.ResponseData["body"], url: URL, signal: AbortSignal): HttpResponse["body"] {
  return {
    destroy: () => void body.destroy(),
    async *[Symbol.asyncIterator]() {
      try {
        for await (const chunk of body) yield chunk as Uint8Array;
      } catch (error) {
        throw asOurs(error, url, signal);
      }
    },
  };
}

/** What a server of plain HTTP makes of a TLS greeting: an answer that is no TLS, or none. */
function speaksNoTls(error: unknown): boolean {
  const { code, message } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
  return code === "ERR_SSL_WRONG_VERSION_NUMBER" || (code === "ECONNRESET" && /before secure TLS/.test(message));
}

function asOurs(error: unknown, url: URL, signal: AbortSignal): BerthError {
  if (error instanceof BerthError) return error;
  if (signal.aborted) return new CancelledError(`the request to ${url.host} was cancelled`, { cause: error });
  const { code, message } = error as NodeJS.ErrnoException;
  const why = code === undefined || message.includes(code) ? message : `${code}: ${message}`;
  return new UnavailableError(`${url.host} failed: ${why}`, { cause: error });
}
