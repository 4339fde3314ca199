/**
 * GET with the manners that registries need: a stall limit instead of a total one, redirects that never carry
 * credentials elsewhere, errors that say which server failed. undici is loaded at the first request.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { Agent, Dispatcher } from "undici";
import { BerthError, CancelledError, InternalError, UnavailableError } from "../../sandbox/errors.js";
import type { RegistryHost } from "./registries.js";

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

/** @param trust certificates for the host's own origin; other origins that it redirects to are checked as usual */
export async function openHttpClient(
  trust: Pick<RegistryHost, "baseUrl" | "skipVerify" | "ca" | "client">,
  timeoutMs: number = stallTimeoutMs,
): Promise<HttpClient> {
  const undici = await import("undici");
  const limits = { headersTimeout: timeoutMs, bodyTimeout: timeoutMs, connectTimeout: timeoutMs };
  const origin = new URL(trust.baseUrl).origin;
  const own: Agent = new undici.Agent({
    ...limits,
    connect: {
      rejectUnauthorized: !trust.skipVerify,
      ...(trust.ca.length > 0 && { ca: trust.ca }),
      ...(trust.client !== undefined && { cert: trust.client.certificate, key: trust.client.key }),
    },
  });
  let others: Agent | undefined;
  const dispatcherOf = (url: URL): Dispatcher => {
    if (url.origin === origin) return own;
    others ??= new undici.Agent(limits);
    return others;
  };

  const send = async (request: HttpRequest, url: URL, headers: Record<string, string>): Promise<HttpResponse> => {
    try {
      const {
        statusCode,
        headers: answered,
        body,
      } = await undici.request(url, {
        dispatcher: dispatcherOf(url),
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

  return {
    async request(request) {
      let url = new URL(request.url);
      let headers = request.headers;
      for (let redirects = 0; ; redirects++) {
        const response = await send(request, url, headers);
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
      await Promise.all([own.destroy(), others?.destroy()]);
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

function asOurs(error: unknown, url: URL, signal: AbortSignal): BerthError {
  if (error instanceof BerthError) return error;
  if (signal.aborted) return new CancelledError(`the request to ${url.host} was cancelled`, { cause: error });
  const { code, message } = error as NodeJS.ErrnoException;
  const why = code === undefined || message.includes(code) ? message : `${code}: ${message}`;
  return new UnavailableError(`${url.host} failed: ${why}`, { cause: error });
}
