import { Agent } from "undici";
import { credentialsOf, shownUrl } from "../otlp-http.js";

const timeoutMs = 10_000;

/** Where /metrics is. */
export class Scraper {
  /** where, for messages */
  readonly from: string;
  readonly #url: URL;
  readonly #dispatcher: Agent;

  /** @param from "unix:///PATH", or a URL http: or https:, with a name and a password where they are wanted */
  constructor(from: string) {
    const socketPath = from.startsWith("unix:///") ? from.slice("unix://".length) : undefined;
    const text = socketPath === undefined ? from : "http://localhost/metrics";
    if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
      throw new Error(`--from ${from} is neither unix:///PATH nor http://HOST:PORT/metrics`);
    }
    this.#url = new URL(text);
    this.from = socketPath === undefined ? shownUrl(this.#url) : from;
    const connect = socketPath === undefined ? {} : { connect: { socketPath } };
    this.#dispatcher = new Agent({ connections: 1, headersTimeout: timeoutMs, bodyTimeout: timeoutMs, ...connect });
  }

  /** The text of /metrics. Rejects with a sentence. */
  async scrape(signal: AbortSignal): Promise<string> {
    const { origin, pathname, search } = this.#url;
    const answer = await this.#dispatcher.request({
      ...{ origin, path: pathname + search, method: "GET", signal },
      headers: { accept: "text/plain;version=0.0.4", ...credentialsOf(this.#url) },
    });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new Error(`HTTP ${answer.statusCode} ${text.slice(0, 200)}`.trim());
    return text;
  }

  close(): Promise<void> {
    return this.#dispatcher.close();
  }
}
