/** Has the agent pull what will be wanted. Nothing is kept of it: the agent knows which images are there. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import Long from "long";
import type { Client } from "../cli/client.js";
import { sentenceOf } from "../cli/failure.js";
import type { Log } from "../log.js";

/** Who wants an image, the most urgent first. */
const wishers = ["pods", "daemonsets", "configmap"] as const;
export type Wisher = (typeof wishers)[number];

export interface PrefetcherOptions {
  client: Pick<Client, "call">;
  /** of each image's compressed layers; 0: no limit */
  bytesPerSecond: number;
  log: Log;
  signal: AbortSignal;
}

interface Settled {
  /** milliseconds since 1970; until then nothing is done about it */
  until: number;
  failures: number;
}

const workers = 2;
/** What the kubelet has collected meanwhile is not brought back at once: the disk is small, then. */
const hasItMs = 6 * 3_600_000;
const firstRetryMs = 30_000;
const longestRetryMs = 30 * 60_000;
const agentRetryMs = 5_000;

export class Prefetcher {
  readonly #wanted = new Map<Wisher, readonly string[]>();
  readonly #settled = new Map<string, Settled>();
  readonly #running = new Set<string>();
  readonly #changed = new EventTarget();

  constructor(private readonly options: PrefetcherOptions) {}

  /** What the wisher wants from now on, instead of what it wanted before. */
  want(wisher: Wisher, images: readonly string[]): void {
    this.#wanted.set(wisher, images);
    const all = new Set([...this.#wanted.values()].flat());
    for (const image of this.#settled.keys()) if (!all.has(image)) this.#settled.delete(image);
    this.#changed.dispatchEvent(new Event("changed"));
  }

  /** Until the signal; a prefetch that runs then is not waited for. */
  async run(): Promise<void> {
    const { signal } = this.options;
    const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    await Promise.race([aborted, ...Array.from({ length: workers }, () => this.#work())]);
  }

  async #work(): Promise<void> {
    const { signal } = this.options;
    while (!signal.aborted) {
      const image = this.#next();
      if (image === undefined) {
        await this.#wait();
        continue;
      }
      this.#running.add(image);
      try {
        await this.#bring(image);
      } finally {
        this.#running.delete(image);
      }
    }
  }

  #next(): string | undefined {
    const now = performance.now();
    return wishers
      .flatMap((wisher) => this.#wanted.get(wisher) ?? [])
      .find((image) => !this.#running.has(image) && (this.#settled.get(image)?.until ?? 0) <= now);
  }

  /** Until something else is wanted, or a pause is over. */
  async #wait(): Promise<void> {
    const next = Math.min(...[...this.#settled.values()].map(({ until }) => until));
    const ended = new AbortController();
    const signal = AbortSignal.any([this.options.signal, ended.signal]);
    const pauseMs = Math.min(Math.max(next - performance.now(), 1_000), longestRetryMs);
    const waits = [once(this.#changed, "changed", { signal }), sleep(pauseMs, undefined, { signal })];
    await Promise.race(waits).catch(() => undefined);
    ended.abort();
    await Promise.allSettled(waits);
  }

  async #bring(image: string): Promise<void> {
    const { client, log, bytesPerSecond } = this.options;
    const failures = this.#settled.get(image)?.failures ?? 0;
    try {
      const { image: there } = await client.call("ImageStatus", { image: { image } }, 10_000);
      if (!there) {
        const begun = performance.now();
        await client.call("PrefetchImage", { image, bytes_per_second: Long.fromNumber(bytesPerSecond, true) });
        log.info({ image, ms: Math.round(performance.now() - begun) }, "prefetched");
      }
      this.#settled.set(image, { until: performance.now() + hasItMs, failures: 0 });
    } catch (error) {
      if (isAway(error)) {
        this.#settled.set(image, { until: performance.now() + agentRetryMs, failures });
        return;
      }
      const pauseMs = Math.min(firstRetryMs * 2 ** failures, longestRetryMs);
      this.#settled.set(image, { until: performance.now() + pauseMs, failures: failures + 1 });
      // the kubelet's own pull tells the user
      log.info({ image, error: sentenceOf(error), pauseMs }, "cannot be prefetched, and is tried again");
    }
  }
}

/** The agent, not a registry. */
export function isAway(error: unknown): boolean {
  return (error as { code?: unknown }).code === status.UNAVAILABLE;
}
