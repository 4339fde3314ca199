/**
 * A small Kubernetes API server, over HTTPS, for tests: lists with pages, watches with bookmarks, 410 for versions that it has
 * forgotten, and faults on demand. It knows what a client's requests need and nothing of what objects mean.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import type { KeyPair } from "./certificates.js";

export interface ApiServerObject {
  metadata: { name: string; namespace?: string; uid: string; resourceVersion?: string; [other: string]: unknown };
  [other: string]: unknown;
}

export interface SeenApiRequest {
  method: string;
  path: string;
  query: URLSearchParams;
  contentType: string;
  body: unknown;
}

export interface ApiServerOptions {
  tls: KeyPair;
  /** whoever has none of these gets 401; it may be changed */
  tokens: Set<string>;
  port?: number;
}

interface Change {
  version: number;
  type: "ADDED" | "MODIFIED" | "DELETED";
  path: string;
  object: ApiServerObject;
}

interface Watch {
  path: string;
  wants: (object: ApiServerObject) => boolean;
  response: ServerResponse;
}

export class TestApiServer {
  readonly seen: SeenApiRequest[] = [];
  /** true: it has answered by itself */
  answer: (request: SeenApiRequest, response: ServerResponse) => boolean = () => false;
  readonly #collections = new Map<string, Map<string, ApiServerObject>>();
  readonly #watches = new Set<Watch>();
  #history: Change[] = [];
  #version = 100;
  #forgottenUpTo = 0;
  #server: Server | undefined;
  #port: number;

  constructor(private readonly options: ApiServerOptions) {
    this.#port = options.port ?? 0;
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    const { certificate, key } = this.options.tls;
    const tls = { cert: readFileSync(certificate), key: readFileSync(key) };
    this.#server = createServer(tls, (request, response) => {
      this.#serve(request, response).catch((error: unknown) => {
        if (!response.headersSent) response.writeHead(500);
        response.end(String(error));
      });
    });
    this.#server.listen(this.#port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Connections are cut; what it knows stays, and start() brings it back at the same port. */
  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise((resolve) => this.#server?.close(resolve));
    this.#watches.clear();
  }

  put(path: string, object: ApiServerObject): void {
    const items = this.#items(path);
    const type = items.has(object.metadata.uid) ? "MODIFIED" : "ADDED";
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    items.set(object.metadata.uid, stored);
    this.#tell({ version: this.#version, type, path, object: stored });
  }

  remove(path: string, uid: string): void {
    const object = this.#items(path).get(uid);
    if (object === undefined) return;
    this.#items(path).delete(uid);
    const metadata = { ...object.metadata, resourceVersion: String(++this.#version) };
    this.#tell({ version: this.#version, type: "DELETED", path, object: { ...object, metadata } });
  }

  /** To all watches of the path. */
  bookmark(path: string): void {
    const object = { metadata: { resourceVersion: String(this.#version) } };
    this.sendLine(path, JSON.stringify({ type: "BOOKMARK", object }));
  }

  /** Whatever it is. */
  sendLine(path: string, line: string): void {
    for (const watch of this.#watches) if (watch.path === path) watch.response.write(`${line}\n`);
  }

  /** Versions so far can no longer be watched from. */
  forgetHistory(): void {
    this.#forgottenUpTo = this.#version;
    this.#history = [];
  }

  /** A version passes by without a change that anybody watches. */
  passVersion(): void {
    this.#version++;
  }

  cutWatches(): void {
    for (const { response } of this.#watches) response.destroy();
  }

  watchesOf(path: string): number {
    return [...this.#watches].filter((watch) => watch.path === path).length;
  }

  requests(method: string, path: RegExp): SeenApiRequest[] {
    return this.seen.filter((request) => request.method === method && path.test(request.path));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const text = Buffer.concat(pieces).toString();
    const seen: SeenApiRequest = {
      method: request.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      contentType: request.headers["content-type"] ?? "",
      body: text === "" ? undefined : JSON.parse(text),
    };
    this.seen.push(seen);
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
    if (!this.options.tokens.has(token)) return fail(response, 401, "Unauthorized");
    if (this.answer(seen, response)) return;
    if (seen.method !== "GET") return reply(response, seen.method === "POST" ? 201 : 200, seen.body);
    if (/\/nodes\/[^/]+$/.test(seen.path)) return reply(response, 200, { metadata: {}, status: { conditions: [] } });
    if (seen.query.get("watch") === "true") return this.#watch(seen, response);
    this.#list(seen, response);
  }

  #list({ path, query }: SeenApiRequest, response: ServerResponse): void {
    const items = [...this.#items(path).values()].filter(selected(query));
    const from = Number(query.get("continue") ?? 0);
    const limit = Number(query.get("limit") ?? items.length);
    const next = from + limit < items.length ? String(from + limit) : "";
    reply(response, 200, {
      metadata: { resourceVersion: String(this.#version), ...(next !== "" && { continue: next }) },
      items: items.slice(from, from + limit),
    });
  }

  #watch({ path, query }: SeenApiRequest, response: ServerResponse): void {
    const from = Number(query.get("resourceVersion"));
    response.writeHead(200, { "content-type": "application/json" });
    if (from < this.#forgottenUpTo) {
      const object = { kind: "Status", code: 410, message: `too old resource version: ${from}` };
      response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
      return;
    }
    const watch = { path, wants: selected(query), response };
    for (const change of this.#history) if (change.version > from) send(watch, change);
    response.flushHeaders();
    this.#watches.add(watch);
    response.once("close", () => this.#watches.delete(watch));
  }

  #tell(change: Change): void {
    this.#history.push(change);
    for (const watch of this.#watches) send(watch, change);
  }

  #items(path: string): Map<string, ApiServerObject> {
    const known = this.#collections.get(path) ?? new Map<string, ApiServerObject>();
    this.#collections.set(path, known);
    return known;
  }
}

function send({ path, wants, response }: Watch, { type, path: changed, object }: Change): void {
  if (path === changed && wants(object)) response.write(`${JSON.stringify({ type, object })}\n`);
}

/** By "spec.nodeName=x" or "metadata.name=x". */
function selected(query: URLSearchParams): (object: ApiServerObject) => boolean {
  const [field, value] = (query.get("fieldSelector") ?? "").split("=");
  if (!field) return () => true;
  return (object) => {
    const found = field.split(".").reduce<unknown>((part, key) => (part as Record<string, unknown>)?.[key], object);
    return found === value;
  };
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function fail(response: ServerResponse, code: number, message: string): void {
  reply(response, code, { kind: "Status", status: "Failure", code, message });
}
