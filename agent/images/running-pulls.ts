/** The pulls that run: those that want the same share one flight, and whoever asks sees how far each one is. */
import { BerthError, type FailureKind, messageOf } from "../../sandbox/errors.js";
import { Flights } from "../../sandbox/flights.js";
import type { Observer } from "../../sandbox/observer.js";
import type { ImageRecord } from "./image-store.js";
import type { LayerProgress } from "./transfers.js";

/** It changes while the pull runs. */
export interface PullProgress {
  /** bottom first; empty until the registry has told which there are */
  layers: readonly LayerProgress[];
}

export type PullPriority = "normal" | "low";

export class RunningPulls {
  readonly #flights = new Flights<ImageRecord>();
  readonly #progress = new Map<string, PullProgress>();
  readonly #observer: Observer;
  #normal = 0;
  #waiting: (() => void)[] = [];

  constructor(observer: Observer) {
    this.#observer = observer;
  }

  /** @param key what the pull is for: two with one key are one pull; @param image the reference */
  join(
    { key, image }: { key: string; image: string },
    priority: PullPriority,
    signal: AbortSignal,
    run: (signal: AbortSignal, progress: PullProgress) => Promise<ImageRecord>,
  ): Promise<ImageRecord> {
    return this.#flights.join(`${priority} ${key}`, signal, (flightSignal) =>
      this.#fly(key, image, priority, (progress) => run(flightSignal, progress)),
    );
  }

  /** How far a pull is; undefined: none runs. */
  progressOf(key: string): PullProgress | undefined {
    return this.#progress.get(key);
  }

  /** Whether a pull of normal priority runs. */
  get busy(): boolean {
    return this.#normal > 0;
  }

  /** Resolves when no pull of normal priority runs any more, or with the signal. */
  async quiet(signal: AbortSignal): Promise<void> {
    while (this.busy && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const go = (): void => {
          signal.removeEventListener("abort", go);
          this.#waiting = this.#waiting.filter((other) => other !== go);
          resolve();
        };
        signal.addEventListener("abort", go, { once: true });
        this.#waiting.push(go);
      });
    }
  }

  async #fly(
    key: string,
    image: string,
    priority: PullPriority,
    run: (progress: PullProgress) => Promise<ImageRecord>,
  ): Promise<ImageRecord> {
    const progress: PullProgress = { layers: [] };
    // what a person watches is the pull that goes at full speed
    if (priority === "normal" || !this.#progress.has(key)) this.#progress.set(key, progress);
    if (priority === "normal") this.#normal += 1;
    this.#observer.emit({ type: "pull-begun", priority });
    let failure: { kind: FailureKind; sentence: string } | undefined;
    try {
      return await run(progress);
    } catch (error) {
      failure = { kind: error instanceof BerthError ? error.kind : "INTERNAL", sentence: messageOf(error) };
      throw error;
    } finally {
      if (this.#progress.get(key) === progress) this.#progress.delete(key);
      if (priority === "normal") this.#normal -= 1;
      this.#observer.emit({ type: "pull-ended", priority, image, failure });
      if (!this.busy) for (const go of [...this.#waiting]) go();
    }
  }
}
