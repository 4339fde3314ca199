/** /metrics over HTTP. It reads, and never steers. */
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer, type Server as HttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { ObservedNode } from "./collect.js";
import { contentTypes, createExposition, type Exposition } from "./exposition.js";
import { negotiate } from "./negotiation.js";
import type { FinishedCall } from "./own.js";
import type { WebConfig } from "./web-config.js";

export interface MetricsServerOptions {
  host: string;
  /** 0: any free one */
  port: number;
  /** Berth's own, for berth_build_info */
  version: string;
  /** null: plain HTTP, for everybody who can connect */
  webConfig?: WebConfig | null;
}

export interface MetricsServer {
  readonly host: string;
  readonly port: number;
  /** for the wrapper around every call */
  observeCall(call: FinishedCall): void;
  close(): Promise<void>;
}

/** Prometheus itself scrapes with one connection: more than a few at a time are a mistake, or mischief. */
const connectionLimit = 32;
/** Within this a request must have come, and an answer be taken. */
const patienceMs = 10_000;

/** Listens, and answers when it does. Rejects with node's own error (EADDRINUSE) when it cannot. */
export async function startMetricsServer(options: MetricsServerOptions, node: ObservedNode): Promise<MetricsServer> {
  const exposition = createExposition(node, { version: options.version });
  const { webConfig = null } = options;
  const server = createServerOf(webConfig, (request, response) => {
    admitted(webConfig, request, response)
      .then((admits) => (admits ? answer(exposition, request, response) : undefined))
      .catch(() => response.destroy());
  });
  server.maxConnections = connectionLimit;
  server.headersTimeout = patienceMs;
  server.requestTimeout = patienceMs;
  // A client that does not read its answer is cut off.
  server.setTimeout(patienceMs);
  try {
    await listen(server, options);
  } catch (error) {
    exposition.close();
    throw error;
  }
  const { port } = server.address() as AddressInfo;
  return {
    host: options.host,
    port,
    observeCall: exposition.observeCall,
    async close() {
      exposition.close();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function createServerOf(webConfig: WebConfig | null, listener: RequestListener): HttpServer | HttpsServer {
  if (webConfig?.tls == null) return createServer(listener);
  const server = createTlsServer(webConfig.tls, listener);
  // before a new connection's handshake: a certificate that was renewed counts from then on
  server.prependListener("connection", () => {
    const changed = webConfig.changedContext();
    if (changed !== undefined) server.setSecureContext(changed);
  });
  return server;
}

/** False: it was answered that a name and a password are wanted. */
async function admitted(
  webConfig: WebConfig | null,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<boolean> {
  if (webConfig === null || (await webConfig.admits(request))) return true;
  request.resume();
  response.setHeader("WWW-Authenticate", 'Basic realm="berth"');
  end(response, 401, "a name and a password are wanted here\n");
  return false;
}

async function answer(exposition: Exposition, request: IncomingMessage, response: ServerResponse): Promise<void> {
  request.resume();
  const [path] = (request.url ?? "").split("?");
  if (path !== "/metrics") return end(response, 404, "metrics are at /metrics\n");
  if (request.method !== "GET") {
    response.setHeader("Allow", "GET");
    return end(response, 405, "only GET is answered here\n");
  }
  const { openMetrics, gzip } = negotiate(request.headers.accept, request.headers["accept-encoding"]);
  const pieces = exposition.render(openMetrics);
  let first: IteratorResult<Buffer | string>;
  try {
    first = await pieces.next();
  } catch (error) {
    return end(response, 500, `the statistics cannot be read: ${error instanceof Error ? error.message : error}\n`);
  }
  response.writeHead(200, {
    "Content-Type": openMetrics ? contentTypes.openMetrics : contentTypes.text,
    Vary: "Accept, Accept-Encoding",
    ...(gzip && { "Content-Encoding": "gzip" }),
  });
  const all = Readable.from(startingWith(first, pieces), { objectMode: true, highWaterMark: 1 });
  // compressed on a thread of the pool
  if (gzip) await pipeline(all, createGzip({ level: 1 }), response);
  else await pipeline(all, response);
}

async function* startingWith(
  first: IteratorResult<Buffer | string>,
  rest: AsyncGenerator<Buffer | string>,
): AsyncGenerator<Buffer | string> {
  if (first.done !== true) yield first.value;
  yield* rest;
}

function end(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": Buffer.byteLength(text),
  });
  response.end(text);
}

function listen(server: HttpServer | HttpsServer, { host, port }: MetricsServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
