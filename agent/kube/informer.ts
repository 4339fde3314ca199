/**
 * What the API server has of one collection, kept here: a list, then a watch from where the list was. What is no longer
 * there to watch from (410) is listed anew; a connection that breaks is made again with growing pauses, and what was known
 * stays known meanwhile.
 */
import { messageOf } from "../../sandbox/errors.js";
import { type ApiClient, ApiError } from "./api-client.js";
import { BackOff } from "./back-off.js";
import type { Said } from "./said.js";

export interface Metadata {
  uid?: string;
  name?: string;
  namespace?: string;
  resourceVersion?: string;
}

export interface ApiObject {
  metadata?: Metadata;
}

export interface InformerOptions<T> {
  api: ApiClient;
  said: Said;
  /** of the collection: "/api/v1/pods" */
  path: string;
  fieldSelector?: string;
  /** what is kept of an object; null: nothing. An object may have any shape: what is thrown leaves it out. */
  keep(object: ApiObject): T | null;
  /** after each change, and once in a while without one */
  onChange(items: ReadonlyMap<string, T>): void;
  signal: AbortSignal;
  timing?: Partial<InformerTiming>;
}

export interface InformerTiming {
  firstPauseMs: number;
  longestPauseMs: number;
  /** so often all is told again; nothing is asked of the server for it */
  resyncMs: number;
  /** a watch is ended by the server after this */
  watchSeconds: number;
}

const usualTiming: InformerTiming = {
  firstPauseMs: 1_000,
  longestPauseMs: 60_000,
  resyncMs: 10 * 60_000,
  watchSeconds: 300,
};

interface WatchEvent {
  type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  object: ApiObject & { code?: number; message?: string };
}

const pageSize = 500;

/** No node has as much of anything; a server that never ends would fill the memory. */
const mostItems = 20_000;
const mostPages = 1_000;

/**
 * Too old (410), not one of this server's (400), or larger than its newest (504): it has been restored from a copy, and
 * would refuse to be watched from there for ever.
 */
const unknownVersion: ReadonlySet<number> = new Set([400, 410, 504]);

export class Informer<T> {
  readonly #items = new Map<string, T>();
  readonly #options: InformerOptions<T>;
  readonly #timing: InformerTiming;
  /** undefined: to be listed */
  #version: string | undefined;
  /** a version that the server no longer has must not come from its cache again */
  #fresh = false;

  constructor(options: InformerOptions<T>) {
    this.#options = options;
    this.#timing = { ...usualTiming, ...options.timing };
  }

  /** Until the signal. */
  async run(): Promise<void> {
    const { signal, said, path } = this.#options;
    const backOff = new BackOff(this.#timing.firstPauseMs, this.#timing.longestPauseMs);
    const resync = setInterval(() => this.#told(), this.#timing.resyncMs);
    while (!signal.aborted) {
      const begun = Date.now();
      try {
        if (this.#version === undefined) await this.#list();
        await this.#watch();
        // a server that ends each watch at once is not to be asked all the time
        if (Date.now() - begun > this.#timing.firstPauseMs) backOff.reset();
        else await backOff.pause(signal);
      } catch (error) {
        if (signal.aborted) break;
        if (error instanceof ApiError && unknownVersion.has(error.status)) {
          this.#version = undefined;
          this.#fresh = true;
        }
        if (!(error instanceof ApiError && error.status === 410)) {
          said.trouble(path, `${path} cannot be watched, and is tried again: ${messageOf(error)}`);
        }
        await backOff.pause(signal, error);
      }
    }
    clearInterval(resync);
  }

  async #list(): Promise<void> {
    const { api, path, fieldSelector, signal } = this.#options;
    const found = new Map<string, T>();
    let version = "";
    let next = "";
    let pages = 0;
    do {
      if (++pages > mostPages) throw new Error(`${path}: the list does not end`);
      const query = {
        ...(fieldSelector !== undefined && { fieldSelector }),
        limit: String(pageSize),
        // from the server's cache, where that will do
        ...(!this.#fresh && next === "" && { resourceVersion: "0" }),
        ...(next !== "" && { continue: next }),
      };
      const page = await api.call<{ metadata?: { resourceVersion?: string; continue?: string }; items?: ApiObject[] }>({
        method: "GET",
        path,
        query,
        signal,
      });
      if (!Array.isArray(page.items)) throw new Error(`${path}: the answer is no list`);
      for (const object of page.items) this.#take(found, object);
      version = page.metadata?.resourceVersion ?? "";
      next = page.metadata?.continue ?? "";
    } while (next !== "");
    if (version === "") throw new Error(`${path}: the list has no resourceVersion`);
    this.#items.clear();
    for (const [uid, item] of found) this.#items.set(uid, item);
    this.#version = version;
    this.#fresh = false;
    this.#told();
  }

  async #watch(): Promise<void> {
    const { api, said, path, fieldSelector, signal } = this.#options;
    const onAccepted = () => said.over(path, `${path} is watched again`);
    // nodes that were started together should not end their watches together
    const seconds = Math.ceil(this.#timing.watchSeconds * (1 + Math.random()));
    const query = {
      ...(fieldSelector !== undefined && { fieldSelector }),
      watch: "true",
      allowWatchBookmarks: "true",
      resourceVersion: this.#version ?? "",
      timeoutSeconds: String(seconds),
    };
    const quietMs = (seconds + 30) * 1000;
    for await (const line of api.lines({ method: "GET", path, query, signal }, quietMs, onAccepted)) this.#event(line);
  }

  #event(line: string): void {
    const { type, object } = JSON.parse(line) as WatchEvent;
    if (type === "ERROR") throw new ApiError(object?.code ?? 500, `${object?.message ?? "the watch was ended"}`);
    const { resourceVersion } = object?.metadata ?? {};
    if (typeof resourceVersion !== "string") throw new Error("the watch sent an object without resourceVersion");
    if (type === "DELETED") this.#items.delete(object.metadata?.uid ?? "");
    else if (type !== "BOOKMARK") this.#take(this.#items, object);
    this.#version = resourceVersion;
    if (type !== "BOOKMARK") this.#told();
  }

  #take(items: Map<string, T>, object: ApiObject): void {
    const uid = object?.metadata?.uid;
    if (typeof uid !== "string") return;
    let kept: T | null = null;
    try {
      kept = this.#options.keep(object);
    } catch (error) {
      const { path, said } = this.#options;
      said.trouble(`${path} ${uid}`, `${path}: the object ${uid} is left out: ${messageOf(error)}`);
    }
    if (kept === null) items.delete(uid);
    else if (items.size < mostItems || items.has(uid)) items.set(uid, kept);
    else throw new Error(`there are more than ${mostItems} objects`);
  }

  #told(): void {
    this.#options.onChange(this.#items);
  }
}
