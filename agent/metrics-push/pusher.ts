/** Every so often what /metrics says, to somebody who does not ask for it. What cannot be delivered waits, within a bound. */
import { setTimeout as sleep } from "node:timers/promises";
import { Agent } from "undici";
import { messageOf } from "../../sandbox/errors.js";
import { postOtlp, retryable, shownUrl } from "../otlp-http.js";
import { type Family, type Labels, readFamilies } from "./families.js";
import type { Scraper } from "./scraper.js";

export interface Message {
  body: Buffer;
  headers: Readonly<Record<string, string>>;
}

/** Makes what is sent of what was scraped; `further` labels go to every series. */
export type Encode = (families: readonly Family[], atMs: number, further: Labels) => Message;

export interface PusherOptions {
  scraper: Scraper;
  url: URL;
  headers: Readonly<Record<string, string>>;
  encode: Encode;
  labels: Labels;
  everyMs: number;
  /** told once when something does not work, and once when it does again */
  tell: (sentence: string) => void;
  signal: AbortSignal;
}

/** Of scrapes that wait for a receiver; the oldest go first. */
const mostWaiting = 40;
const timeoutMs = 30_000;
const longestWaitMs = 30_000;

export class Pusher {
  readonly #dispatcher = new Agent({ connections: 1, headersTimeout: timeoutMs, bodyTimeout: timeoutMs });
  readonly #waiting: Message[] = [];
  readonly #troubles = new Set<string>();
  #dropped = 0;
  #sending: Promise<void> | undefined;

  constructor(private readonly options: PusherOptions) {}

  /** Until the signal; what waits then is given up. */
  async run(): Promise<void> {
    const { everyMs, signal } = this.options;
    for (let due = performance.now(); !signal.aborted; ) {
      await this.#scrape();
      this.#sending ??= this.#send().finally(() => {
        this.#sending = undefined;
      });
      // a machine that slept does not make up for what it missed
      due = Math.max(due + everyMs, performance.now());
      await sleep(due - performance.now(), undefined, { signal }).catch(() => {});
    }
    await this.#sending;
    await this.#dispatcher.destroy();
  }

  async #scrape(): Promise<void> {
    const { scraper, encode, labels, signal } = this.options;
    const atMs = Date.now();
    let families: Family[] = [];
    try {
      families = readFamilies(await scraper.scrape(signal));
      this.#well(scraper.from, "answers again");
    } catch (error) {
      if (signal.aborted) return;
      this.#trouble(scraper.from, messageOf(error));
    }
    families.push(upFamily(families.length > 0));
    this.#waiting.push(encode(families, atMs, labels));
    if (this.#waiting.length > mostWaiting) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
  }

  async #send(): Promise<void> {
    const { url, signal } = this.options;
    let waitMs = 500;
    while (!signal.aborted) {
      const [message] = this.#waiting;
      if (message === undefined) return;
      const problem = await this.#post(message);
      if (problem === undefined || problem.final) {
        // it may have been dropped meanwhile, for being the oldest
        if (this.#waiting[0] === message) this.#waiting.shift();
        if (problem !== undefined) this.#dropped += 1;
        waitMs = 500;
      }
      if (problem === undefined) {
        this.#well(shownUrl(url), `takes metrics again; ${this.#dropped} times there was none to take them`);
        this.#dropped = 0;
        continue;
      }
      this.#trouble(shownUrl(url), problem.sentence);
      if (problem.final) continue;
      await sleep(Math.max(waitMs, Math.min(problem.waitMs, longestWaitMs)), undefined, { signal }).catch(() => {});
      waitMs = Math.min(2 * waitMs, longestWaitMs);
    }
  }

  /** Undefined: it was taken. */
  async #post({ body, headers }: Message): Promise<{ sentence: string; final: boolean; waitMs: number } | undefined> {
    const { url, headers: own, signal } = this.options;
    try {
      const answer = await postOtlp(this.#dispatcher, url, { ...headers, ...own }, body, signal);
      if (answer.status >= 200 && answer.status < 300) return undefined;
      const sentence = `HTTP ${answer.status} ${answer.text}`.trim();
      return { sentence, final: answer.status < 500 && !retryable.has(answer.status), waitMs: answer.retryAfterMs };
    } catch (error) {
      return { sentence: messageOf(error), final: false, waitMs: 0 };
    }
  }

  #trouble(who: string, sentence: string): void {
    if (!this.#troubles.has(who) && !this.options.signal.aborted) this.options.tell(`${who}: ${sentence}`);
    this.#troubles.add(who);
  }

  #well(who: string, sentence: string): void {
    if (this.#troubles.delete(who)) this.options.tell(`${who}: ${sentence}`);
  }
}

/** As Prometheus itself makes it of a scrape. */
function upFamily(up: boolean): Family {
  const name = "up";
  return {
    name,
    help: "Whether the agent's metrics could be read.",
    type: "gauge",
    samples: [{ name, labels: [], value: Number(up) }],
  };
}
