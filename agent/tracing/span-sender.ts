/** Spans to an OpenTelemetry collector. Nobody waits for it: what it does not take in time is dropped, and counted. */
import { hostname } from "node:os";
import { Agent, type Dispatcher } from "undici";
import { messageOf } from "../../sandbox/errors.js";
import type { Log } from "../log.js";
import { attribute, postOtlp, shownUrl } from "../otlp-http.js";
import { runtimeVersion } from "../version.js";
import type { Span } from "./tracer.js";

const mostWaiting = 4_096;
const mostInRequest = 512;
const sendEveryMs = 1_000;
const timeoutMs = 10_000;

export class SpanSender {
  #waiting: Span[] = [];
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;
  #sending = false;
  #troubled = false;
  readonly #dispatcher: Dispatcher = new Agent({ connections: 1 });

  /** @param url of the receiver: http://127.0.0.1:4318/v1/traces */
  constructor(
    private readonly url: URL,
    private readonly log: Log,
  ) {}

  send(span: Span): void {
    if (this.#waiting.length >= mostWaiting) this.#dropped += 1;
    else this.#waiting.push(span);
    this.#timer ??= setTimeout(() => void this.#flush(), sendEveryMs).unref();
  }

  async #flush(): Promise<void> {
    this.#timer = undefined;
    if (this.#sending) return;
    this.#sending = true;
    while (this.#waiting.length > 0) await this.#post(this.#waiting.splice(0, mostInRequest));
    this.#sending = false;
  }

  async #post(spans: readonly Span[]): Promise<void> {
    try {
      const body = JSON.stringify(toRequest(spans));
      const answer = await postOtlp(this.#dispatcher, this.url, {}, body, AbortSignal.timeout(timeoutMs));
      if (answer.status >= 300) throw new Error(`HTTP ${answer.status} ${answer.text}`.trim());
      if (this.#troubled) this.log.info({ dropped: this.#dropped }, `${shownUrl(this.url)} takes traces again`);
      this.#troubled = false;
      this.#dropped = 0;
    } catch (error) {
      this.#dropped += spans.length;
      // once, and not each second
      if (!this.#troubled) this.log.warn(`traces are dropped: ${shownUrl(this.url)}: ${messageOf(error)}`);
      this.#troubled = true;
    }
  }
}

const kinds = { internal: 1, server: 2 };
const statusError = 2;

/** ExportTraceServiceRequest (opentelemetry-proto, collector/trace/v1), its ids in hexadecimal digits, as OTLP's JSON has them. */
export function toRequest(spans: readonly Span[]) {
  const resource = [
    attribute("service.name", "berth"),
    attribute("service.version", runtimeVersion),
    attribute("host.name", hostname()),
  ];
  return {
    resourceSpans: [
      {
        resource: { attributes: resource },
        scopeSpans: [{ scope: { name: "berth" }, spans: spans.map(toSpan) }],
      },
    ],
  };
}

function toSpan({ traceId, spanId, parentSpanId, name, server, begin, end, attributes, error }: Span) {
  return {
    traceId,
    spanId,
    parentSpanId,
    name,
    kind: server ? kinds.server : kinds.internal,
    startTimeUnixNano: String(begin),
    endTimeUnixNano: String(end),
    attributes: Object.entries(attributes).map(([key, value]) => attribute(key, value)),
    status: error === "" ? {} : { code: statusError, message: error },
  };
}
