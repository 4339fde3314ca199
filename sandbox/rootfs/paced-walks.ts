/**
 * Measures trees without anybody noticing: all walks together take a bounded part of one thread's time, in small steps
 * that take turns, so that a tree of millions of files delays no other. None of it is on the event loop's thread.
 */
import { setTimeout as pause } from "node:timers/promises";
import { native, type UsageWalk } from "../../native/binding.js";

export interface TreeUsage {
  bytes: number;
  inodes: number;
}

export interface Pace {
  /** longest step of one walk */
  stepMs: number;
  /** walking time that is saved up at most, and that comes in a minute: no minute has more than twice that */
  msAMinute: number;
}

const defaultPace: Pace = { stepMs: 20, msAMinute: 2000 };

interface Turn {
  walk: UsageWalk;
  resolve(usage: TreeUsage): void;
  reject(error: unknown): void;
}

export class PacedWalks {
  readonly #pace: Pace;
  readonly #turns: Turn[] = [];
  #walking = false;
  #savedMs: number;
  #countedAt = performance.now();

  constructor(pace: Pace = defaultPace) {
    this.#pace = pace;
    this.#savedMs = pace.msAMinute;
  }

  /** What a directory and all below it occupy. A SystemError of ENOENT: it is not there. */
  measure(directory: string): Promise<TreeUsage> {
    return new Promise((resolve, reject) => {
      this.#turns.push({ walk: native.openUsageWalk(directory), resolve, reject });
      if (!this.#walking) void this.#walkAll();
    });
  }

  async #walkAll(): Promise<void> {
    this.#walking = true;
    for (let turn = this.#turns.shift(); turn !== undefined; turn = this.#turns.shift()) {
      await this.#untilAffordable();
      const begunAt = performance.now();
      try {
        const { done, bytes, inodes } = await turn.walk.step(this.#pace.stepMs);
        if (done) turn.resolve({ bytes, inodes });
        else this.#turns.push(turn);
      } catch (error) {
        turn.reject(error);
      }
      this.#savedMs -= performance.now() - begunAt;
    }
    this.#walking = false;
  }

  async #untilAffordable(): Promise<void> {
    const { msAMinute } = this.#pace;
    const now = performance.now();
    this.#savedMs = Math.min(msAMinute, this.#savedMs + ((now - this.#countedAt) * msAMinute) / 60_000);
    this.#countedAt = now;
    // an agent that ends does not wait for it
    if (this.#savedMs < 0) await pause((-this.#savedMs * 60_000) / msAMinute, undefined, { ref: false });
  }
}
