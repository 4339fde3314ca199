/** /metrics over HTTP, and whether the agent is well. It reads, and never steers. A connection asks one thing at a time. */
import { chmodSync } from "node:fs";
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer, type Server as HttpsServer } from "node:https";
import type { Socket } from "node:net";
import { finished } from "node:stream/promises";
import { makeWayForSocket } from "../sandbox/listening-socket.js";
import type { Observer } from "../sandbox/observer.js";
import type { ObservedNode } from "./collect.js";
import { contentTypes, createExposition, type Exposition } from "./exposition.js";
import { answerHealth, type Check } from "./health.js";
import { negotiate } from "./negotiation.js";
import type { FinishedCall } from "./own.js";
import type { PodLabel } from "./pod-labels.js";
import { followCertificates } from "./renewed-certificates.js";
import type { WebConfig } from "./web-config.js";

/** Port 0: any free one. */
export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string };

export type MetricsServerOptions = ListenAddress & {
  /** Berth's own, for berth_build_info */
  readonly version: string;
  /** null: plain HTTP, for everybody who can connect */
  readonly webConfig?: WebConfig | null;
  /** that series have beside cAdvisor's */
  readonly podLabels?: readonly PodLabel[];
  /** what /readyz asks */
  readonly readiness?: readonly Check[];
};

export interface MetricsServer {
  /** "127.0.0.1:9464" or "unix:///run/berth/metrics.sock" */
  readonly where: string;
  /** 0: a unix socket */
  readonly port: number;
  /** for the wrapper around every call */
  observeCall(call: FinishedCall): void;
  close(): Promise<void>;
}

/** Prometheus itself scrapes with one connection: more than a few at a time are a mistake, or mischief. */
const connectionLimit = 32;
/** Within this a request must have come, and a part of the answer be taken; */
const patienceMs = 10_000;
/** and all of it within this: who takes a little now and then holds one of a few connections. */
const longestAnswerMs = 60_000;

/** Listens, and answers when it does. Rejects with node's own error (EADDRINUSE) when it cannot. */
export async function startMetricsServer(options: MetricsServerOptions, node: ObservedNode): Promise<MetricsServer> {
  const { version, webConfig = null, podLabels = [], readiness = [] } = options;
  const exposition = createExposition(node, { version, podLabels });
  const answering = new WeakSet<Socket>();
  const server = createServerOf(webConfig, node.observer, (request, response) => {
    const { socket } = request;
    // each would be collected at once, and its answer kept until those before it are taken
    if (answering.has(socket)) {
      socket.destroy();
      return;
    }
    answering.add(socket);
    response.once("close", () => answering.delete(socket));
    admitted(webConfig, request, response)
      .then((admits) => (admits ? answer(exposition, readiness, request, response) : undefined))
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
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : 0;
  return {
    where: "path" in options ? `unix://${options.path}` : `${options.host}:${port}`,
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

function createServerOf(
  webConfig: WebConfig | null,
  observer: Pick<Observer, "emit">,
  listener: RequestListener,
): HttpServer | HttpsServer {
  if (webConfig?.tls == null) return createServer(listener);
  const server = createTlsServer(webConfig.tls, listener);
  followCertificates(server, {
    files: webConfig.files,
    options: webConfig.certificates,
    onRefused: (error) =>
      observer.emit({
        type: "trouble",
        what: "take the new certificates of /metrics, whose old ones stay",
        subject: webConfig.path,
        error,
      }),
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

async function answer(
  exposition: Exposition,
  readiness: readonly Check[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  request.resume();
  const [path = "", query] = (request.url ?? "").split("?");
  if (request.method !== "GET") {
    response.setHeader("Allow", "GET");
    return end(response, 405, "only GET is answered here\n");
  }
  if (path !== "/metrics") {
    const health = await answerHealth(path, new URLSearchParams(query), readiness);
    if (health !== undefined) return end(response, health.status, health.text);
    return end(response, 404, "there are /metrics, /healthz and /readyz\n");
  }
  const format = negotiate(request.headers.accept, request.headers["accept-encoding"]);
  const pieces = exposition.render(format);
  let first: IteratorResult<Buffer>;
  try {
    first = await pieces.next();
  } catch (error) {
    return end(response, 500, `the statistics cannot be read: ${error instanceof Error ? error.message : error}\n`);
  }
  response.writeHead(200, {
    "Content-Type": format.openMetrics ? contentTypes.openMetrics : contentTypes.text,
    Vary: "Accept, Accept-Encoding",
    ...(format.gzip && { "Content-Encoding": "gzip" }),
  });
  await sendAll(startingWith(first, pieces), response);
}

async function* startingWith(first: IteratorResult<Buffer>, rest: AsyncGenerator<Buffer>): AsyncGenerator<Buffer> {
  if (first.done !== true) yield first.value;
  yield* rest;
}

/** One piece after the other: its memory is used again as soon as it is written. */
async function sendAll(pieces: AsyncGenerator<Buffer>, response: ServerResponse): Promise<void> {
  const ended = finished(response, { signal: AbortSignal.timeout(longestAnswerMs), readable: false });
  const all = async () => {
    for await (const piece of pieces) {
      await new Promise<void>((resolve, reject) => {
        response.write(piece, (error) => (error ? reject(error) : resolve()));
      });
    }
    response.end();
  };
  await Promise.all([ended, all()]);
}

function end(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": Buffer.byteLength(text),
  });
  response.end(text);
}

async function listen(server: HttpServer | HttpsServer, address: ListenAddress): Promise<void> {
  const place = "path" in address ? { path: address.path } : { host: address.host, port: address.port };
  if ("path" in address) await makeWayForSocket(address.path);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(place, () => {
      server.off("error", reject);
      resolve();
    });
  });
  // as the CRI's own: names of pods and images are for root, and for the group that root gives it to
  if ("path" in address) chmodSync(address.path, 0o660);
}
