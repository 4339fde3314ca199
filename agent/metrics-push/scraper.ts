import { Agent } from "undici";

const timeoutMs = 10_000;

/** Where /metrics is. */
export class Scraper {
  readonly #url: URL;
  readonly #dispatcher: Agent;

  /** @param from "unix:///PATH", or a URL http: or https:, with a name and a password where they are wanted */
  constructor(readonly from: string) {
    const socketPath = from.startsWith("unix:///") ? from.slice("unix://".length) : undefined;
    const text = socketPath === undefined ? from : "http://localhost/metrics";
    if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
      throw new Error(`--from ${from} is neither unix:///PATH nor http://HOST:PORT/metrics`);
    }
    this.#url = new URL(text);
    const connect = socketPath === undefined ? {} : { connect: { socketPath } };
    this.#dispatcher = new Agent({ connections: 1, headersTimeout: timeoutMs, bodyTimeout: timeoutMs, ...connect });
  }

  /** The text of /metrics. Rejects with a sentence. */
  async scrape(signal: AbortSignal): Promise<string> {
    const { origin, pathname, search, username, password } = this.#url;
    const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString(
      "base64",
    );
    const answer = await this.#dispatcher.request({
      ...{ origin, path: pathname + search, method: "GET", signal },
      headers: {
        accept: "text/plain;version=0.0.4",
        ...(username === "" ? {} : { authorization: `Basic ${credentials}` }),
      },
    });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new Error(`HTTP ${answer.statusCode} ${text.slice(0, 200)}`.trim());
    return text;
  }

  close(): Promise<void> {
    return this.#dispatcher.close();
  }
}
