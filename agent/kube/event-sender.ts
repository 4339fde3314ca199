/**
 * Events on pods. The same one again is counted and not sent anew; a pod's and all together are limited; and while the API
 * server is away a bounded number waits.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { CoreV1Event } from "@kubernetes/client-node";
import { messageOf } from "../../sandbox/errors.js";
import type { PodNames } from "../../sandbox/observer.js";
import { type ApiClient, ApiError } from "./api-client.js";
import { BackOff } from "./back-off.js";
import type { Said } from "./said.js";
import { TokenBucket } from "./token-bucket.js";

export interface PodEvent {
  pod: PodNames;
  /** empty: it is about the whole pod */
  container: string;
  type: "Normal" | "Warning";
  /** CamelCase, stable */
  reason: string;
  message: string;
  /** milliseconds since 1970 */
  at: number;
}

interface Series {
  event: PodEvent;
  count: number;
  firstAt: number;
  /** the name of the Event; undefined: not made yet */
  name: string | undefined;
  unsent: boolean;
}

export interface EventSenderOptions {
  api: Pick<ApiClient, "call">;
  said: Said;
  node: string;
  signal: AbortSignal;
}

/** So long is the same a repetition. The API server forgets Events after an hour. */
const seriesMs = 10 * 60_000;
const mostSeries = 500;
const maxMessage = 1_000;

export class EventSender {
  readonly #series = new Map<string, Series>();
  readonly #pods = new Map<string, TokenBucket>();
  readonly #all = new TokenBucket({ burst: 20, perSecond: 1 });
  readonly #changed = new EventTarget();

  constructor(private readonly options: EventSenderOptions) {}

  offer(event: PodEvent): void {
    const { pod, container, reason } = event;
    const key = `${pod.uid} ${container} ${reason}`;
    const known = this.#series.get(key);
    if (known !== undefined && event.at - known.event.at < seriesMs) {
      Object.assign(known, { event, count: known.count + 1, unsent: true });
    } else if (this.#makeRoom()) {
      this.#series.set(key, { event, count: 1, firstAt: event.at, name: undefined, unsent: true });
    } else {
      this.options.said.trouble("events", `more than ${mostSeries} Events wait to be sent: later ones are dropped`);
      return;
    }
    this.#changed.dispatchEvent(new Event("changed"));
  }

  /** Until the signal. */
  async run(): Promise<void> {
    const { signal, said } = this.options;
    const backOff = new BackOff(1_000, 60_000);
    while (!signal.aborted) {
      const unsent = [...this.#series.values()].filter((series) => series.unsent);
      if (unsent.length === 0) {
        await once(this.#changed, "changed", { signal }).catch(() => undefined);
        continue;
      }
      const next = unsent.find((series) => this.#mayBeSent(series));
      if (next === undefined) {
        await sleep(1_000, undefined, { signal }).catch(() => undefined);
        continue;
      }
      try {
        next.unsent = false;
        await this.#send(next);
        backOff.reset();
        said.over("events", "Events are sent again");
      } catch (error) {
        if (signal.aborted) return;
        // a namespace that is gone, or a right that is missing, will not be there a second later
        const final = error instanceof ApiError && error.status < 500 && error.status !== 429 && error.status !== 401;
        if (!final) next.unsent = true;
        said.trouble("events", `an Event cannot be sent: ${messageOf(error)}`);
        await backOff.pause(signal, error);
      }
    }
  }

  #mayBeSent({ event }: Series): boolean {
    const { uid } = event.pod;
    let bucket = this.#pods.get(uid);
    if (bucket === undefined) {
      if (this.#pods.size >= 1_000) this.#pods.clear();
      bucket = new TokenBucket({ burst: 10, perSecond: 1 / 30 });
      this.#pods.set(uid, bucket);
    }
    return bucket.has() && this.#all.take() && bucket.take();
  }

  async #send(series: Series): Promise<void> {
    const { api, signal } = this.options;
    const { event, count, name } = series;
    const path = `/api/v1/namespaces/${encodeURIComponent(event.pod.namespace)}/events`;
    if (name !== undefined) {
      const body = { count, lastTimestamp: time(event.at), message: event.message.slice(0, maxMessage) };
      const contentType = "application/merge-patch+json";
      try {
        await api.call({ method: "PATCH", path: `${path}/${name}`, contentType, body, signal });
        return;
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 404)) throw error;
      }
    }
    const made = `${event.pod.name.slice(0, 230)}.${randomBytes(8).toString("hex")}`;
    await api.call({ method: "POST", path, body: describe(series, made, this.options.node), signal });
    series.name = made;
  }

  /** What was sent and is old goes first. False: all of it waits. */
  #makeRoom(): boolean {
    if (this.#series.size < mostSeries) return true;
    for (const [key, { unsent }] of this.#series) {
      if (unsent) continue;
      this.#series.delete(key);
      return true;
    }
    return false;
  }
}

function describe({ event, count, firstAt }: Series, name: string, node: string): object {
  const { pod, container, type, reason, message, at } = event;
  const body = {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name, namespace: pod.namespace },
    involvedObject: {
      apiVersion: "v1",
      kind: "Pod",
      namespace: pod.namespace,
      name: pod.name,
      uid: pod.uid,
      ...(container !== "" && { fieldPath: `spec.containers{${container}}` }),
    },
    type,
    reason,
    message: message.slice(0, maxMessage),
    source: { component: "berth", host: node },
    reportingComponent: "berth",
    reportingInstance: node,
    count,
    firstTimestamp: time(firstAt),
    lastTimestamp: time(at),
  };
  return body satisfies Omit<CoreV1Event, "firstTimestamp" | "lastTimestamp"> as object;
}

/** metav1.Time has whole seconds */
function time(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}
