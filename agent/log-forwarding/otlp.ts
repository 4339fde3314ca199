/** Lines as OpenTelemetry's log records: OTLP/HTTP in JSON (opentelemetry-proto, collector/logs/v1). */
import { isUtf8 } from "node:buffer";
import { messageOf } from "../../sandbox/errors.js";
import { attribute, postOtlp, retryable, shownUrl } from "../otlp-http.js";
import type { LogLine } from "./log-tail.js";
import { Backoff, type LogSource, type Sink, SinkRefusal } from "./sink.js";

const timeoutMs = 30_000;

export interface OtlpOptions {
  /** of the receiver: .../v1/logs */
  url: URL;
  headers: Record<string, string>;
  /** told when a receiver does not answer, and when it does again */
  onTrouble: (sentence: string) => void;
  /** nothing more is sent */
  signal: AbortSignal;
}

export async function openOtlp({ url, headers, onTrouble, signal }: OtlpOptions): Promise<Sink> {
  const { Agent } = (await import("undici")).default;
  const dispatcher = new Agent({ connections: 4, headersTimeout: timeoutMs, bodyTimeout: timeoutMs });
  let troubled = false;
  const trouble = (sentence: string): void => {
    if (!troubled) onTrouble(`${shownUrl(url)}: ${sentence}; what comes waits in the logs`);
    troubled = true;
  };
  return {
    async send(source, lines) {
      const body = JSON.stringify(toRequest(source, lines));
      const backoff = new Backoff();
      for (;;) {
        let waitMs = 0;
        try {
          const answer = await postOtlp(dispatcher, url, headers, body, signal);
          if (answer.status >= 200 && answer.status < 300) {
            if (troubled) onTrouble(`${shownUrl(url)}: takes lines again`);
            troubled = false;
            return;
          }
          const problem = `HTTP ${answer.status} ${answer.text}`.trim();
          if (!retryable.has(answer.status)) throw new SinkRefusal(`${shownUrl(url)}: ${problem}`);
          waitMs = answer.retryAfterMs;
          trouble(problem);
        } catch (error) {
          signal.throwIfAborted();
          if (error instanceof SinkRefusal) throw error;
          trouble(messageOf(error));
        }
        await backoff.wait(signal, waitMs);
      }
    },
    close: () => dispatcher.close(),
  };
}

/** ExportLogsServiceRequest. The names are those of the semantic conventions. */
export function toRequest(source: LogSource, lines: readonly LogLine[]) {
  const observed = `${Date.now()}000000`;
  return {
    resourceLogs: [
      {
        resource: {
          attributes: [
            attribute("k8s.namespace.name", source.namespace),
            attribute("k8s.pod.name", source.pod),
            attribute("k8s.pod.uid", source.podUid),
            attribute("k8s.container.name", source.container),
            { key: "k8s.container.restart_count", value: { intValue: String(source.attempt) } },
            attribute("container.id", source.containerId),
          ],
        },
        scopeLogs: [
          {
            scope: { name: "berth" },
            logRecords: lines.map(({ time, stream, text, partial }) => ({
              timeUnixNano: toUnixNano(time),
              observedTimeUnixNano: observed,
              body: isUtf8(text) ? { stringValue: text.toString("utf8") } : { bytesValue: text.toString("base64") },
              attributes: [
                attribute("log.iostream", stream),
                ...(partial ? [{ key: "berth.log.partial", value: { boolValue: true } }] : []),
              ],
            })),
          },
        ],
      },
    ],
  };
}

/** "2026-01-02T03:04:05.000000006Z" in nanoseconds since 1970; 0 when it is no time. */
export function toUnixNano(time: string): string {
  const [, seconds, fraction = ""] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z$/.exec(time) ?? [];
  if (seconds === undefined) return "0";
  return `${Date.parse(`${seconds}Z`) / 1000}${fraction.padEnd(9, "0")}`;
}
