/**
 * Interfaces that are going. The kernel takes a pod's veth away by itself, some ten milliseconds after the last reference
 * to the pod's network namespace: nobody waits for it, but what the interface had is not given to another before.
 */
import { existsSync } from "node:fs";
import type { Addon } from "../../native/binding.js";

/** So many may be on their way; who comes then waits. */
const mostAtOnce = 256;
const lookAgainMs = 1_000;
/**
 * What is not gone by then is deleted: something keeps the namespace. Most often it is a TCP connection of a process that was
 * killed while the other side took no more: the kernel goes on sending for a minute or two.
 */
const patienceMs = 3_000;

interface Departure {
  podId: string;
  /** milliseconds since 1970 */
  since: number;
  /** the same by a clock that nobody sets */
  begun: number;
  whenGone: () => void;
}

export class Departures {
  readonly #addon: Pick<Addon, "deleteLink">;
  readonly #onTrouble: (name: string, error: unknown) => void;
  readonly #leaving = new Map<string, Departure>();
  #waiting: (() => void)[] = [];
  #watching: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(addon: Pick<Addon, "deleteLink">, onTrouble: (name: string, error: unknown) => void) {
    this.#addon = addon;
    this.#onTrouble = onTrouble;
  }

  get count(): number {
    return this.#leaving.size;
  }

  /** `whenGone` is called once, at once when there is no such interface. Waits only when too many are on their way. */
  async add(name: string, podId: string, whenGone: () => void): Promise<void> {
    if (!interfaceExists(name)) return whenGone();
    this.#leaving.set(name, { podId, since: Date.now(), begun: performance.now(), whenGone });
    this.#timer ??= setInterval(() => void this.look(), lookAgainMs).unref();
    // gone between the look and its entry: nobody would tell any more
    if (!interfaceExists(name)) return this.gone(name);
    if (this.count <= mostAtOnce) return;
    // whoever waits keeps the event loop alive
    this.#timer?.ref();
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** Waits until one more has gone; false: none is on its way, or `forMs` was not enough. */
  async oneGoes(forMs: number): Promise<boolean> {
    if (this.count === 0) return false;
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), forMs);
    });
    const one = new Promise<true>((resolve) => this.#watching.push(() => resolve(true)));
    return Promise.race([one, over]).finally(() => clearTimeout(timer));
  }

  list(): { podId: string; since: number }[] {
    return [...this.#leaving.values()].map(({ podId, since }) => ({ podId, since }));
  }

  gone(name: string): void {
    const departure = this.#leaving.get(name);
    if (departure === undefined) return;
    this.#leaving.delete(name);
    departure.whenGone();
    for (const resolve of this.#watching.splice(0)) resolve();
    if (this.count <= mostAtOnce) {
      for (const resolve of this.#waiting) resolve();
      this.#waiting = [];
      this.#timer?.unref();
    }
    if (this.count === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  /** For those whose end was not told. What the kernel has not taken away for so long is deleted. */
  async look(patience = patienceMs): Promise<void> {
    for (const [name, { begun }] of [...this.#leaving]) {
      try {
        if (interfaceExists(name)) {
          if (performance.now() - begun < patience) continue;
          await this.#addon.deleteLink(name);
        }
        this.gone(name);
      } catch (error) {
        this.#onTrouble(name, error);
      }
    }
  }
}

export function interfaceExists(name: string): boolean {
  return existsSync(`/sys/class/net/${name}`);
}
