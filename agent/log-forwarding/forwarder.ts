/**
 * Passes on what containers write, from their log files: whoever takes it slowly, or not at all, holds up nothing but this.
 * Which containers there are is asked of the agent; while none answers, those that are known are gone on with.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { messageOf } from "../../sandbox/errors.js";
import type { Client } from "../cli/client.js";
import { LogTail } from "./log-tail.js";
import type { Positions } from "./positions.js";
import { type LogSource, type Sink, SinkRefusal } from "./sink.js";

const { ContainerState } = runtime.v1;

/** How often it is asked which containers there are, and how often a log is looked at. */
const listMs = 1_000;
const lookMs = 500;
const saveMs = 2_000;
const callMs = 10_000;

export interface ForwarderOptions {
  client: Client;
  sink: Sink;
  positions: Positions;
  /** of pods; empty: of all */
  namespaces: readonly string[];
  tell: (sentence: string) => void;
  signal: AbortSignal;
}

interface Known {
  ended: boolean;
}

export class Forwarder {
  readonly #known = new Map<string, Known>();
  readonly #running = new Set<Promise<void>>();
  #answered = true;

  constructor(private readonly options: ForwarderOptions) {}

  /** Until the signal. */
  async run(): Promise<void> {
    const { positions, signal } = this.options;
    let savedAt = performance.now();
    while (!signal.aborted) {
      await this.#look();
      if (performance.now() - savedAt >= saveMs) {
        positions.save();
        savedAt = performance.now();
      }
      await sleep(listMs, undefined, { signal }).catch(() => undefined);
    }
    await Promise.all(this.#running);
    positions.save();
  }

  async #look(): Promise<void> {
    const { client, tell } = this.options;
    try {
      const { containers } = await client.call("ListContainers", {}, callMs);
      const { items } = await client.call("ListPodSandbox", {}, callMs);
      const pods = new Map(items.map(({ id, metadata }) => [id, metadata]));
      for (const { id, state, pod_sandbox_id: podId, metadata } of containers) {
        if (!id || !podId) continue;
        const pod = pods.get(podId);
        if (pod === undefined || pod === null || metadata === undefined || metadata === null) continue;
        const known = this.#known.get(id);
        if (known !== undefined) {
          known.ended ||= state === ContainerState.CONTAINER_EXITED;
          continue;
        }
        this.#begin(
          {
            namespace: pod.namespace ?? "",
            pod: pod.name ?? "",
            podUid: pod.uid ?? "",
            container: metadata.name ?? "",
            containerId: id,
            attempt: metadata.attempt ?? 0,
          },
          state === ContainerState.CONTAINER_EXITED,
        );
      }
      this.#forget(new Set(containers.map(({ id }) => id ?? "")));
      if (!this.#answered) tell("the agent answers again");
      this.#answered = true;
    } catch (error) {
      if (this.#answered) tell(`the agent does not answer: ${messageOf(error)}`);
      this.#answered = false;
    }
  }

  #begin(source: LogSource, ended: boolean): void {
    const known: Known = { ended };
    this.#known.set(source.containerId, known);
    const { namespaces } = this.options;
    if (namespaces.length > 0 && !namespaces.includes(source.namespace)) return;
    const forwarding = this.#forward(source, known).catch((error: unknown) => {
      if (!this.options.signal.aborted) this.options.tell(`container ${source.containerId}: ${messageOf(error)}`);
    });
    this.#running.add(forwarding);
    void forwarding.finally(() => this.#running.delete(forwarding));
  }

  /** One that was removed has nothing more to say. */
  #forget(there: ReadonlySet<string>): void {
    for (const [id, known] of this.#known) {
      if (there.has(id)) continue;
      known.ended = true;
      this.#known.delete(id);
    }
    this.options.positions.keepOnly(there);
  }

  async #forward(source: LogSource, known: Known): Promise<void> {
    const { client, positions, signal } = this.options;
    let path: string;
    try {
      const { status } = await client.call("ContainerStatus", { container_id: source.containerId }, callMs);
      path = status?.log_path ?? "";
    } catch {
      // it is removed, or the agent is away: found again when it is listed again
      this.#known.delete(source.containerId);
      return;
    }
    if (path === "") return;
    const tail = new LogTail(path, positions.get(source.containerId));
    try {
      while (!signal.aborted) {
        // asked before the log is read for the last time: what it had written before its end is there by then
        const { ended } = known;
        const lines = await tail.next();
        if (lines.length > 0) {
          await this.#send(source, lines);
        } else if (ended) {
          await this.#send(source, tail.flush());
        } else {
          await sleep(lookMs, undefined, { signal });
        }
        if (this.#known.get(source.containerId) === known) positions.set(source.containerId, tail.position);
        if (lines.length === 0 && ended) return;
      }
    } finally {
      await tail.close();
    }
  }

  async #send(source: LogSource, lines: Awaited<ReturnType<LogTail["next"]>>): Promise<void> {
    if (lines.length === 0) return;
    try {
      await this.options.sink.send(source, lines);
    } catch (error) {
      if (!(error instanceof SinkRefusal)) throw error;
      this.options.tell(`${lines.length} lines of container ${source.containerId} are lost: ${error.message}`);
    }
  }
}
